//! Tests of the DAG and of the choice of its head.

mod astray;
mod choice;
mod graph;
mod handover;
mod hearsay;
mod oracle;
mod partition;
mod plan;
mod properties;
mod renewal;
mod roots;
mod route;
mod speed;
mod story;
mod support;
mod window;
