//! The driver for a standing Ray cluster: its Jobs REST API.
