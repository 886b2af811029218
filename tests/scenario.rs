//! The stories, one a file.
//!
//! A story that claims delivery says what exactly must arrive, so that it can fail.

mod accounts;
mod away_and_back;
mod bad_input;
mod broken_disk;
mod carriers_view;
mod cli;
mod command_line;
mod crash;
mod crash_amid_changes;
mod days_away;
mod demo;
mod fork;
mod health;
mod hostile;
mod idempotent;
mod in_flight;
mod join_by_link;
mod join_in_parallel;
mod join_that_expires;
mod key_packages;
mod negative_control;
mod neighbours;
mod newcomers;
mod no_leaks;
mod operators_choices;
mod paging;
mod partition;
mod peers;
mod queued_messages;
mod reconciliation;
mod rejoin;
mod removed_member;
mod restored_copy;
mod roles;
mod sealed_later;
mod send_timing;
mod server_behaviour;
mod starting_and_stopping;
mod state_graph;
mod storm;
mod stream;
mod three_servers_talk;
mod two_devices;
mod unlock_key;
