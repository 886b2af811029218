//! The engine as a whole: members who exchange nothing but bytes, and whose states live in stored rows.

mod branch;
mod cost;
mod fixture;
mod hostile;
mod lifecycle;
mod refusal;
