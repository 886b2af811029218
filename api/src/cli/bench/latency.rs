//! Send-to-visible times at a steady rate, from the call to the receiver's event.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, future::try_join, stream};
use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::IntervalStream;

use super::{
    pair::{Arrivals, Pair, text},
    report::{Row, reference},
};
use crate::cli::{failure::Failure, stage::Resident};

/// 50 messages a second.
const INTERVAL: Duration = Duration::from_millis(20);
const MESSAGES: usize = 500;
/// Not counted: the first messages find connections and caches cold.
const WARM_UP: usize = 50;
/// More than ever wait at this rate, unless the server stands still.
const IN_FLIGHT_LIMIT: usize = 1_024;
/// Longest time that is told apart, in microseconds.
const LONGEST_MICROS: u64 = 60_000_000;

/// Sends at the steady rate and measures each message.
///
/// # Errors
/// When a message is refused or does not arrive.
pub(super) async fn measure() -> Result<Vec<Row>, Failure> {
    let mut pair = Pair::open().await?;
    let (sender, channel_id) = (&pair.sender, pair.room.channel_id.as_str());
    let (begun, visible) = try_join(send_all(sender, channel_id), all_arrive(&mut pair.arrivals)).await?;
    let histogram = histogram(&begun, &visible)?;
    let row = |metric, quantile, goal| Row {
        metric,
        unit: "ms",
        measured: milliseconds(histogram.value_at_quantile(quantile)),
        raw: Some(reference::SEND_TO_VISIBLE_MS),
        goal,
        higher_is_better: false,
    };
    Ok(vec![
        row("send to visible p50, 50 messages/s, timing fast", 0.50, Some(5.0)),
        row("send to visible p95, 50 messages/s, timing fast", 0.95, Some(20.0)),
        row("send to visible p99, 50 messages/s, timing fast", 0.99, None),
    ])
}

/// When each call began, by number.
async fn send_all(sender: &Resident, channel_id: &str) -> Result<Vec<Instant>, Failure> {
    let mut ticks = interval(INTERVAL);
    // A late call must not make the later ones early.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    IntervalStream::new(ticks)
        .take(WARM_UP + MESSAGES)
        .zip(stream::iter(0..))
        .map(|(_, number)| async move {
            let begun = Instant::now();
            sender.send(channel_id, text(number)).await.map(|_| (number, begun))
        })
        .buffer_unordered(IN_FLIGHT_LIMIT)
        .try_collect::<Vec<_>>()
        .await
        .map(by_number)
}

async fn all_arrive(arrivals: &mut Arrivals) -> Result<Vec<Instant>, Failure> {
    let mut visible = Vec::with_capacity(WARM_UP + MESSAGES);
    while visible.len() < WARM_UP + MESSAGES {
        let number = arrivals.next().await?;
        visible.push((number, Instant::now()));
    }
    Ok(by_number(visible))
}

fn by_number(mut times: Vec<(usize, Instant)>) -> Vec<Instant> {
    times.sort_unstable_by_key(|(number, _)| *number);
    times.into_iter().map(|(_, at)| at).collect()
}

/// Microseconds of the messages after the warm-up.
fn histogram(begun: &[Instant], visible: &[Instant]) -> Result<Histogram<u64>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::local_fault("HISTOGRAM", error.to_string());
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_MICROS, 3).map_err(|error| failed(&error))?;
    for (begun, visible) in begun.iter().zip(visible).skip(WARM_UP) {
        let micros = visible.saturating_duration_since(*begun).as_micros();
        histogram.saturating_record(u64::try_from(micros).unwrap_or(LONGEST_MICROS).max(1));
    }
    Ok(histogram)
}

fn milliseconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_not_counted_and_numbers_are_matched() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let begun: Vec<_> = (0..WARM_UP + 2).map(|_| start).collect();
        let mut arrived: Vec<_> = (0..WARM_UP).map(|n| (n, at(9_000))).collect();
        arrived.push((WARM_UP + 1, at(4)));
        arrived.push((WARM_UP, at(2)));
        let histogram = histogram(&begun, &by_number(arrived)).unwrap();
        assert_eq!(histogram.len(), 2);
        assert_eq!(histogram.min() / 100, 20);
        assert_eq!(histogram.max() / 100, 40);
    }
}
