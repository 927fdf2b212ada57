"""The test environment: private servers on free loopback ports.

`provision` gets the programs, `servers` starts and stops them, `up.py` does
both around one command. See README.md in this folder.
"""
