//! ferry-gotmpl
