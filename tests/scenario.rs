//! The stories, one a file.
//!
//! A story that claims delivery says what exactly must arrive, so that it can fail.

mod away_and_back;
mod crash;
mod demo;
mod idempotent;
mod in_flight;
mod join_by_link;
mod negative_control;
mod paging;
mod removed_member;
mod three_servers_talk;
mod two_devices;
