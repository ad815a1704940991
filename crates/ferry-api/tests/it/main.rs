//! Wire types against JSON that Go wrote from Docker's own types.

mod golden;
