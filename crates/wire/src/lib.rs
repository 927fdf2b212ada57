//! The JSON of the SQS message and the HTTP API, and its conversion to and from the domain.
