//! Behaviour of the `ferry` program against a fake daemon and the recorded answers of Docker's client.

mod create;
mod fake;
mod grammar;
mod images;
mod inspect;
mod interactive;
mod network;
mod ps;
mod replay;
mod run;
mod system;
mod verbs;
mod volume;
