//! A group's states as an SVG: epochs from left to right, the way to the head in the first row, every other
//! branch in a row of its own below.
//!
//! Pure: it knows the answer of the server and no file.

use std::collections::{BTreeMap, BTreeSet};

use spacepanda_proto::api::v1::{self as api, CommitClass, HeldState, StateMark};

/// Pixels: a box, and the room between two.
const BOX: [u64; 2] = [128, 92];
const GAP: [u64; 2] = [176, 44];
const MARGIN: u64 = 16;
/// Room above for the words on arrows that lead nowhere new.
const LINE: u64 = 17;

/// The picture.
pub(super) fn svg(graph: &api::StateGraph) -> String {
    let places = places(&graph.states);
    let columns = places.values().map(|(column, _)| column + 1).max().unwrap_or(1);
    let rows = places.values().map(|(_, row)| row + 1).max().unwrap_or(1);
    let width = 2 * MARGIN + columns * (BOX[0] + GAP[0]) - GAP[0];
    let height = 2 * MARGIN + rows * (BOX[1] + GAP[1]) - GAP[1];
    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">"
        ),
        "<title>The states of a group</title>".to_owned(),
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\"/></marker></defs>"
            .to_owned(),
        format!("<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>"),
    ];
    let at = |number: u32| places.get(&number).map(|(column, row)| corner(*column, *row));
    for state in &graph.states {
        if let (Some(commit), Some(to)) = (&state.commit, at(state.number))
            && let Some(from) = at(commit.parent)
        {
            lines.extend(arrow(from, to, commit));
        }
    }
    for state in &graph.states {
        if let Some(place) = at(state.number) {
            lines.extend(drawn(place, state));
        }
    }
    lines.push("</svg>".to_owned());
    lines.join("\n")
}

/// The upper left corner of a box.
fn corner(column: u64, row: u64) -> [u64; 2] {
    [MARGIN + column * (BOX[0] + GAP[0]), MARGIN + row * (BOX[1] + GAP[1])]
}

/// Column and row of each state.
fn places(states: &[api::GraphState]) -> BTreeMap<u32, (u64, u64)> {
    let epochs: BTreeSet<_> = states.iter().map(|state| state.epoch).collect();
    let columns: BTreeMap<_, _> = epochs.into_iter().zip(0..).collect();
    let known: BTreeMap<_, _> = states.iter().map(|state| (state.number, state)).collect();
    let parent = |state: &api::GraphState| state.commit.as_ref().map(|commit| commit.parent);
    // The way to the head keeps the first row to itself.
    let marked = states.iter().find(|state| state.mark() != StateMark::Unspecified);
    let mut way = Vec::new();
    let mut next = marked.or(states.last());
    while let Some(state) = next.filter(|state| !way.contains(&state.number)) {
        way.push(state.number);
        next = parent(state).and_then(|number| known.get(&number).copied());
    }
    let mut places = BTreeMap::new();
    // The last column that is taken in each row.
    let mut rows: Vec<u64> = vec![u64::MAX];
    for state in states {
        let column: u64 = columns.get(&state.epoch).copied().unwrap_or_default();
        if way.contains(&state.number) {
            places.insert(state.number, (column, 0));
            continue;
        }
        let above = parent(state).and_then(|number| places.get(&number).copied());
        let free = |row: &(usize, &u64)| *row.1 < column;
        let same =
            above.filter(|(_, row)| *row > 0 && rows.get(index(*row)).is_some_and(|end| *end < column));
        let row = match same {
            Some((_, row)) => index(row),
            None => rows.iter().enumerate().find(free).map_or(rows.len(), |(row, _)| row),
        };
        if row == rows.len() {
            rows.push(column);
        } else if let Some(end) = rows.get_mut(row) {
            *end = column;
        }
        places.insert(state.number, (column, u64::try_from(row).unwrap_or(u64::MAX)));
    }
    places
}

fn index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}

fn arrow(from: [u64; 2], to: [u64; 2], commit: &api::GraphCommit) -> Vec<String> {
    let (start, end) = ([from[0] + BOX[0], from[1] + BOX[1] / 2], [to[0], to[1] + BOX[1] / 2]);
    // Down first, then along: the words stand in the last stretch.
    let bend = start[0] + 18;
    let (look, width) = if commit.chosen { ("", 2) } else { (" stroke-dasharray=\"5 4\"", 1) };
    let path =
        format!("M{},{} L{bend},{} L{bend},{} L{},{}", start[0], start[1], start[1], end[1], end[0], end[1]);
    let mut lines = vec![format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"black\" stroke-width=\"{width}\"{look} marker-end=\"url(#tip)\"/>"
    )];
    let class = match commit.class() {
        CommitClass::Unspecified => "commit",
        CommitClass::Removal => "removal or role",
        CommitClass::Change => "addition",
        CommitClass::Update => "fresh keys",
    };
    lines.push(text([bend + 6, end[1] - 6], "", &format!("{class} by m{}", commit.committer)));
    if let Some(votes) = &commit.votes {
        let said = format!("{} of {} votes", votes.votes, votes.voters);
        lines.push(text([bend + 6, end[1] + LINE - 2], "", &said));
        if votes.settled > 0.0 {
            lines.push(text([bend + 6, end[1] + 2 * LINE - 2], "", &format!("{} settled", votes.settled)));
        }
    }
    lines
}

fn drawn(place: [u64; 2], state: &api::GraphState) -> Vec<String> {
    let (fill, width) = match (state.mark(), state.held()) {
        (StateMark::Head, _) => ("palegreen", 3),
        (StateMark::Wanted, _) => ("lightsalmon", 3),
        (_, HeldState::Pruned) => ("gainsboro", 1),
        _ => ("white", 1),
    };
    let look = match state.held() {
        HeldState::Opaque | HeldState::Claimed => " stroke-dasharray=\"5 4\"",
        _ => "",
    };
    let mut words = vec![match state.mark() {
        StateMark::Head => format!("s{} HEAD", state.number),
        StateMark::Wanted => format!("s{} WANTED", state.number),
        StateMark::Unspecified => format!("s{}", state.number),
    }];
    words.push(format!("epoch {}", state.epoch));
    words.extend(state.accounts.map(|accounts| format!("{accounts} accounts")));
    if state.supports > 0 {
        words.push(format!("supports: {}", state.supports));
    }
    words.extend(match state.held() {
        HeldState::Unspecified | HeldState::Live => None,
        HeldState::Pruned => Some("pruned".to_owned()),
        HeldState::Opaque => Some("opaque".to_owned()),
        HeldState::Claimed => Some("claimed".to_owned()),
    });
    let [x, y] = place;
    let mut lines = vec![format!(
        "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" rx=\"6\" fill=\"{fill}\" stroke=\"black\" \
         stroke-width=\"{width}\"{look}/>",
        BOX[0], BOX[1]
    )];
    for (word, number) in words.iter().zip(1..) {
        let weight = if number == 1 { " font-weight=\"bold\"" } else { "" };
        lines.push(text([x + 10, y + LINE * number + 1], weight, word));
    }
    lines
}

/// Words at a place; they are this module's own and need no escaping.
fn text([x, y]: [u64; 2], look: &str, words: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\"{look}>{words}</text>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(number: u32, epoch: u64, parent: Option<u32>) -> api::GraphState {
        let commit = parent.map(|parent| api::GraphCommit {
            parent,
            class: CommitClass::Change.into(),
            committer: number,
            chosen: number != 2,
            votes: (number == 2).then_some(api::GraphVotes { votes: 1.5, voters: 4, settled: 0.0 }),
        });
        api::GraphState { number, epoch, commit, held: HeldState::Live.into(), ..Default::default() }
    }

    /// s0, and from it s1 and s2 in one epoch; s3 and the head s4 after s1, s5 after s2.
    fn forked() -> api::StateGraph {
        let parents = [(0, 7, None), (1, 8, Some(0)), (2, 8, Some(0)), (3, 9, Some(1)), (4, 9, Some(1))];
        let mut states: Vec<_> = parents.into_iter().map(|(n, e, p)| state(n, e, p)).collect();
        states.push(state(5, 9, Some(2)));
        states[4].set_mark(StateMark::Head);
        states[3].set_held(HeldState::Opaque);
        api::StateGraph { states, dot: String::new() }
    }

    #[test]
    fn the_way_to_the_head_is_the_first_row_and_branches_do_not_meet() {
        let places = places(&forked().states);
        assert_eq!([places[&0], places[&1], places[&4]], [(0, 0), (1, 0), (2, 0)]);
        assert_eq!((places[&2].0, places[&5].0), (1, 2));
        assert_ne!(places[&3], places[&5]);
        let all: BTreeSet<_> = places.values().collect();
        assert_eq!(all.len(), places.len(), "{places:?}");
    }

    #[test]
    fn a_picture_holds_what_is_known_of_each_state() {
        let picture = svg(&forked());
        let count = |what: &str| picture.matches(what).count();
        assert_eq!((count("marker-end"), count("epoch 9")), (5, 3), "{picture}");
        assert_eq!((count("s4 HEAD"), count("opaque"), count("1.5 of 4 votes")), (1, 1, 1));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>"));
    }

    #[test]
    fn odd_answers_are_drawn_somehow() {
        let empty = svg(&api::StateGraph::default());
        assert!(empty.ends_with("</svg>"));
        // Parents that are not there, and a circle.
        let states = vec![state(0, 1, Some(9)), state(1, 2, Some(2)), state(2, 3, Some(1))];
        assert!(svg(&api::StateGraph { states, dot: String::new() }).contains("s2"));
    }
}
