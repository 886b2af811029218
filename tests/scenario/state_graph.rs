//! A fork that healed can be seen, and the picture of it gives nobody away.

use spacepanda_proto::api::v1::{CommitClass, GetStateGraphRequest, Role, StateGraph, StateMark};

use crate::harness::{Cluster, Person, Place, meet, same_world, terminal::Terminal, wait::when, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_healed_fork_is_drawn_without_ids_or_names() {
    let (cluster, [alice, bob, carol, dave, erin]) =
        Cluster::of(["alice", "bob", "carol", "dave", "erin"]).await;
    let place = meet(&alice, &[&bob, &carol, &dave, &erin]).await;
    alice.set_role(&place.space, &carol, Role::Admin).await;
    same_world(&[&alice, &bob, &carol, &dave, &erin], &place.space, 0).await;
    assert!(forks(&graph(&alice, &place).await).is_empty(), "control: nothing has forked yet");

    for a in [&alice, &bob] {
        for b in [&carol, &dave, &erin] {
            cluster.cut(a, b).await;
        }
    }
    tokio::join!(alice.set_role(&place.space, &bob, Role::Moderator), async {
        carol.set_role(&place.space, &dave, Role::Moderator).await;
        carol.set_role(&place.space, &erin, Role::Moderator).await;
    });
    for a in [&alice, &bob] {
        for b in [&carol, &dave, &erin] {
            cluster.heal(a, b);
        }
    }
    let everyone = [&alice, &bob, &carol, &dave, &erin];
    wait_until("all changes to be made", async || {
        for person in everyone {
            let members = person.members(&place.space).await.map_err(|status| status.to_string())?;
            let moderators = members.iter().filter(|member| member.role() == Role::Moderator).count();
            when(moderators == 3, format!("{}: {moderators}", person.name()))?;
        }
        Ok(())
    })
    .await;
    same_world(&everyone, &place.space, 0).await;

    let mut saw_it = 0;
    for person in everyone {
        let seen = graph(person, &place).await;
        let forks = forks(&seen);
        if forks.is_empty() {
            // Whoever was on the side that all go on with need not have been shown the other.
            continue;
        }
        saw_it += 1;
        let rivals: Vec<_> =
            seen.states.iter().filter_map(|state| state.commit).filter(|c| c.parent == forks[0]).collect();
        assert!(rivals.iter().all(|commit| commit.class() == CommitClass::Removal), "{rivals:?}");
        assert_eq!(rivals.iter().filter(|commit| commit.chosen).count(), 1, "{rivals:?}");
        assert!(rivals.iter().all(|commit| commit.votes.is_some()), "{rivals:?}");
        assert_ne!(rivals[0].committer, rivals[1].committer);
        let heads: Vec<_> = seen.states.iter().filter(|state| state.mark() == StateMark::Head).collect();
        assert_eq!(heads.len(), 1);
        assert_eq!(heads[0].epoch, person.space(&place.space).await.expect("it").group.expect("it").epoch);
        assert!(heads[0].supports > 0, "{}", seen.dot);
    }
    assert!(saw_it > 0, "whoever changed sides has seen both");
    drawn(&alice, &place, &everyone).await;
}

/// The same from the command line, as text and as a picture.
async fn drawn(person: &Person, place: &Place, everyone: &[&Person]) {
    let terminal = Terminal::at(&person.server);
    terminal.json(&["login", person.name()]).await;
    let file = terminal.config_dir().join("graph.svg");
    let path = file.to_str().expect("a path");
    let dot = terminal.text(&["debug", "graph", &place.space, "--format", "dot"]).await;
    let told = terminal.json(&["debug", "graph", &place.space, "--output", path]).await;
    let svg = std::fs::read_to_string(&file).expect("a picture");
    assert!(dot.starts_with("digraph") && svg.starts_with("<svg"), "{dot} {svg}");
    assert_eq!(svg.matches("HEAD").count(), 1);
    let told = told.to_string();
    for text in [&dot, &svg, &told] {
        for secret in give_away(person, place, everyone).await {
            assert!(!text.contains(&secret), "{secret} in {text}");
        }
    }
    // Control: elsewhere they are told.
    let space = terminal.json(&["space", "show", &place.space]).await.to_string();
    assert!(give_away(person, place, everyone).await.iter().any(|secret| space.contains(secret)));
}

async fn give_away(person: &Person, place: &Place, everyone: &[&Person]) -> Vec<String> {
    let group = person.space(&place.space).await.expect("the space").group.expect("its group");
    let mut all = vec!["The garden".into(), place.space.clone(), group.head, group.check];
    for member in person.members(&place.space).await.expect("members") {
        all.extend([member.display_name, member.account_id.chars().take(8).collect()]);
    }
    all.extend(everyone.iter().map(|person| person.peer_id().to_owned()));
    all
}

async fn graph(person: &Person, place: &Place) -> StateGraph {
    let request = GetStateGraphRequest { space_id: place.space.clone(), max_states: 0 };
    person.spaces().get_state_graph(request).await.expect("a graph").into_inner()
}

/// Numbers of states in which several commits were made.
fn forks(graph: &StateGraph) -> Vec<u32> {
    let parents: Vec<_> = graph.states.iter().filter_map(|state| Some(state.commit?.parent)).collect();
    let several = |number: &u32| parents.iter().filter(|parent| *parent == number).count() > 1;
    graph.states.iter().map(|state| state.number).filter(several).collect()
}
