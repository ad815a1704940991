//! ferry-network
