//! `sourcepolicy/pb/policy.proto`: rules for the sources of builds.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Policy {
    #[prost(int64, tag = "1")]
    pub version: i64,
    #[prost(message, repeated, tag = "2")]
    pub rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Rule {
    #[prost(int32, tag = "1")]
    pub action: i32,
    #[prost(message, optional, tag = "2")]
    pub selector: Option<Selector>,
    #[prost(message, optional, tag = "3")]
    pub updates: Option<Update>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Update {
    #[prost(string, tag = "1")]
    pub identifier: String,
    #[prost(btree_map = "string, string", tag = "2")]
    pub attrs: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Selector {
    #[prost(string, tag = "1")]
    pub identifier: String,
    #[prost(int32, tag = "2")]
    pub match_type: i32,
    #[prost(message, repeated, tag = "3")]
    pub constraints: Vec<AttrConstraint>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct AttrConstraint {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(int32, tag = "3")]
    pub condition: i32,
}
