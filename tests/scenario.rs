//! The stories, one a file.
//!
//! A story that claims delivery says what exactly must arrive, so that it can fail.
