//! Real containers, made by `ferry-runtime` and, where it is installed, by runc as well: a case that runc fails is a wrong case.
//!
//! Needs root, cgroups and a static busybox; says so and passes where they are missing, unless `FERRY_TEST_REQUIRE_ALL=1` promises them.

mod bundle;
mod command;
mod devices;
mod engine;
mod exec;
mod hooks;
mod identity;
mod library;
mod lifecycle;
mod limits;
mod mounts;
mod racers;
mod terminal;
mod wait;
