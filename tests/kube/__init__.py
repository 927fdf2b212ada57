"""A real Kubernetes API server for the tests, with the real KubeRay operator; see README.md."""
