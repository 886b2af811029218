//! Sustained throughput: SendMessage on one server to message_added on the other.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};

use super::{
    pair::{Pair, text},
    report::{Row, reference},
};
use crate::cli::failure::Failure;

/// Messages before the clock starts: connections, caches and plans are then warm.
const WARM_UP: usize = 200;

/// Sends all messages and counts until the last is visible.
///
/// # Errors
/// When a message is refused or does not arrive.
pub(super) async fn measure(messages: u32, in_flight: u32) -> Result<Vec<Row>, Failure> {
    let count = usize::try_from(messages).unwrap_or(usize::MAX);
    let in_flight = usize::try_from(in_flight).unwrap_or(1);
    let mut pair = Pair::open().await?;
    transfer(&mut pair, 0, WARM_UP, in_flight).await?;
    let (accepted, visible) = transfer(&mut pair, WARM_UP, count, in_flight).await?;
    let rate = |time: Duration| f64::from(messages) / time.as_secs_f64().max(f64::EPSILON);
    Ok(vec![
        Row {
            metric: "throughput, sent on A to visible on B, timing fast",
            unit: "messages/s",
            measured: rate(visible),
            raw: Some(reference::DURABLE_INSERTS_PER_SECOND),
            goal: Some(2_000.0),
            higher_is_better: true,
        },
        Row {
            metric: "of which accepted by A",
            unit: "messages/s",
            measured: rate(accepted),
            raw: Some(reference::DURABLE_INSERTS_PER_SECOND),
            goal: None,
            higher_is_better: true,
        },
    ])
}

/// Time until all are accepted, and until all are visible.
async fn transfer(
    pair: &mut Pair,
    first: usize,
    count: usize,
    in_flight: usize,
) -> Result<(Duration, Duration), Failure> {
    let begun = Instant::now();
    let (sender, channel_id) = (&pair.sender, pair.room.channel_id.as_str());
    let sending = async {
        stream::iter(first..first + count)
            .map(|number| sender.send(channel_id, text(number)))
            .buffer_unordered(in_flight)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(begun.elapsed())
    };
    let arriving = async {
        pair.arrivals.all(first, count).await?;
        Ok(begun.elapsed())
    };
    try_join(sending, arriving).await
}
