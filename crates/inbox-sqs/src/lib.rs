//! The inbox on Amazon SQS and what speaks its protocol.
