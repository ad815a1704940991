//! Behaviour of the template engine against recorded answers.

mod conformance;
