//! Reads the sources and fails where they break the rules of docs/architecture.md and docs/style.md.
//!
//! Starts no server and knows no Rust beyond comments, strings and paths. An exception needs a line
//! in a table below, and one that is no longer needed fails as well.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// Lines of a file without its tests.
const MAX_LINES: usize = 400;
/// Files that are longer, and how long they may be.
const LONGER: &[(&str, usize)] = &[("core/src/store/logbook.rs", 440)];

/// Crates and modules that belong to one place each: there, and nowhere else in the product.
const AT_HOME: &[(&str, &[&str])] = &[
    ("sqlx", &["core/src/store/"]),
    ("libp2p", &["core/src/router"]),
    ("openmls", &["core/src/group/"]),
    ("openmls_rust_crypto", &["core/src/group/"]),
    ("openmls_traits", &["core/src/group/"]),
    ("snow", &["core/src/letter.rs"]),
    ("negentropy", &["core/src/reconcile.rs"]),
    ("rand_chacha", &["core/src/simulation/", "core/src/fuzzing/"]),
    ("argon2", &["core/src/keys/"]),
    ("prometheus_client", &["core/src/metrics.rs", "api/src/metrics.rs"]),
    ("tonic", &["api/src/", "proto/src/lib.rs"]),
    ("axum", &["api/src/"]),
    ("tower", &["api/src/"]),
    ("rustls", &["api/src/"]),
    ("figment", &["api/src/config"]),
    (
        "tokio",
        &[
            "api/src/",
            "core/src/home",
            "core/src/network",
            "core/src/router",
            "core/src/session",
            "core/src/store/",
        ],
    ),
    // The environment: configuration and the client; and systemd's directory of credentials.
    ("env", &["api/src/config", "api/src/cli/", "api/src/lib.rs", "core/src/home.rs"]),
];

/// Modules of the core and those that each may use.
const USES: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("clock", &[]),
    ("keys", &[]),
    ("metrics", &[]),
    ("model", &["id"]),
    ("mutant", &[]),
    ("certificate", &["id"]),
    ("dag", &["certificate", "id", "mutant"]),
    ("delivery", &["id", "model"]),
    (
        "fuzzing",
        &[
            "certificate",
            "dag",
            "event",
            "group",
            "id",
            "invite",
            "letter",
            "model",
            "network",
            "reconcile",
            "router",
        ],
    ),
    ("simulation", &["certificate", "dag", "event", "group", "id", "model", "mutant", "permission"]),
    ("letter", &["certificate"]),
    ("reconcile", &["id"]),
    ("permission", &["model"]),
    ("event", &["certificate", "id", "model"]),
    ("invite", &["event", "id"]),
    ("group", &["certificate", "dag", "event", "id", "model", "mutant", "permission"]),
    ("measure", &["certificate", "clock", "dag", "event", "group", "id", "model"]),
    ("router", &["metrics"]),
    ("store", &["certificate", "clock", "dag", "group", "id", "keys", "metrics", "model"]),
    ("journal", &["certificate", "event", "id", "model", "permission", "store"]),
    (
        "network",
        &[
            "certificate",
            "clock",
            "dag",
            "delivery",
            "event",
            "group",
            "id",
            "invite",
            "journal",
            "letter",
            "metrics",
            "model",
            "reconcile",
            "router",
            "store",
        ],
    ),
    (
        "session",
        &[
            "clock",
            "dag",
            "event",
            "group",
            "id",
            "invite",
            "journal",
            "metrics",
            "model",
            "network",
            "permission",
            "router",
            "store",
        ],
    ),
    ("home", &["clock", "id", "keys", "metrics", "network", "session", "store"]),
];

/// Files that look at a module theirs may not use: both only for the types of addresses.
const GLANCES: &[(&str, &str)] =
    &[("core/src/journal/project.rs", "router"), ("core/src/store/peer.rs", "router")];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "manager", "misc", "mod", "util", "utils"];

struct Source {
    /// From the root of the workspace.
    path: String,
    text: String,
    /// Without comments, literals and inline tests.
    code: String,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The core's module that the file belongs to.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("core/src/")?;
        let module = inside.split(['/', '.']).next()?;
        (module != "lib").then_some(module)
    }
}

fn sources() -> io::Result<Vec<Source>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["proto/src", "core/src", "core/tests", "api/src", "tests"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let read = |file: PathBuf| {
        let path = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&file)?;
        let code = code(&text);
        Ok(Source { path, text, code })
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The lines before the inline tests.
fn without_tests(text: &str) -> &str {
    let mut offset = 0;
    let mut marked = None;
    for line in text.split_inclusive('\n') {
        if let Some(start) = marked.take()
            && line.starts_with("mod ")
            && line.trim_end().ends_with('{')
        {
            return text.get(..start).unwrap_or(text);
        }
        if line.trim_end() == "#[cfg(test)]" {
            marked = Some(offset);
        }
        offset += line.len();
    }
    text
}

fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = without_tests(text);
    while let Some(next) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(next);
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        } else {
            code.push(' ');
            rest = rest.get(skipped..).unwrap_or_default();
        }
    }
    code
}

/// How many bytes of comment, string or character literal `rest` starts with; 0 for code.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let in_a_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_a_word || before == Some('b')) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.get(hashes..).is_some_and(|body| body.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = 1 + hashes + 1;
            let found = rest.get(body..).and_then(|text| text.find(&end));
            return found.map_or(rest.len(), |at| body + at + end.len());
        }
    }
    if rest.starts_with('"') {
        return 1 + quoted(rest.get(1..).unwrap_or_default(), '"');
    }
    if let Some(body) = rest.strip_prefix('\'') {
        // 'a' and '\n' are literals, 'static is a lifetime.
        let mut chars = body.chars();
        let literal = chars.next() == Some('\\') || chars.next() == Some('\'');
        return if literal { 1 + quoted(body, '\'') } else { 0 };
    }
    0
}

fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    body.len()
}

/// Whether the code names something inside of the crate or module `word`.
fn names(code: &str, word: &str) -> bool {
    let boundary = |c: char| !c.is_alphanumeric() && c != '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code.get(..at).and_then(|text| text.chars().next_back());
        let after = code.get(at + word.len()..).unwrap_or_default();
        before.is_none_or(boundary) && after.starts_with("::")
    })
}

/// The core's modules named as `crate::x` or in `crate::{x, y::z}`.
fn used_modules(code: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = code.get(at + prefix.len()..).unwrap_or_default();
        match rest.strip_prefix('{') {
            None => modules.extend(first_word(rest)),
            Some(tree) => modules.extend(branches(tree).iter().filter_map(|branch| first_word(branch))),
        }
    }
    modules
}

fn first_word(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The parts of a `use` tree between its outermost commas.
fn branches(tree: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    for c in tree.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth = match c {
                    '{' => depth + 1,
                    '}' => depth - 1,
                    _ => depth,
                };
                parts.last_mut().into_iter().for_each(|part| part.push(c));
            }
        }
    }
    parts
}

fn nothing(found: Vec<String>) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn crates_stay_where_they_belong() {
    let mut found = Vec::new();
    for source in sources().unwrap().iter().filter(|source| !source.is_test()) {
        for (name, homes) in AT_HOME {
            if names(&source.code, name) && !homes.iter().any(|home| source.path.starts_with(home)) {
                found.push(format!("{} uses {name}, which belongs in {}", source.path, homes.join(", ")));
            }
        }
    }
    nothing(found);
}

#[test]
fn modules_of_the_core_use_only_those_below_them() {
    let mut found = Vec::new();
    let mut glances: BTreeSet<&(&str, &str)> = BTreeSet::new();
    for source in sources().unwrap().iter().filter(|source| !source.is_test()) {
        let Some(module) = source.module() else { continue };
        let Some((_, allowed)) = USES.iter().find(|(name, _)| *name == module) else {
            found.push(format!("{} is of a module that USES does not know", source.path));
            continue;
        };
        for used in used_modules(&source.code).iter().filter(|used| *used != module) {
            let glance = GLANCES.iter().find(|(file, other)| *file == source.path && other == used);
            glances.extend(glance);
            if glance.is_none() && !allowed.contains(&used.as_str()) {
                found.push(format!("{} uses crate::{used}", source.path));
            }
        }
    }
    let idle = GLANCES.iter().filter(|glance| !glances.contains(glance));
    found.extend(idle.map(|(file, module)| format!("{file} no longer uses crate::{module}: drop its line")));
    nothing(found);
}

#[test]
fn only_the_clock_reads_the_wall_clock_of_the_core() {
    let readers = sources().unwrap().into_iter().filter(|source| {
        source.path.starts_with("core/") && !source.is_test() && source.code.contains("SystemTime::now")
    });
    let readers: Vec<_> = readers.map(|source| source.path).collect();
    assert_eq!(readers, ["core/src/clock.rs"]);
}

#[test]
fn every_file_says_what_it_is() {
    let sources = sources().unwrap();
    assert!(sources.len() > 150, "only {} files were found", sources.len());
    let mute = sources.into_iter().filter(|source| !source.text.starts_with("//! "));
    nothing(mute.map(|source| format!("{} does not open with //!", source.path)).collect());
}

#[test]
fn files_are_short_and_named_after_what_they_hold() {
    let mut found = Vec::new();
    for source in sources().unwrap() {
        let stem = source.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs"));
        if stem.is_some_and(|stem| EMPTY_NAMES.contains(&stem)) {
            found.push(format!("{} has a name that says nothing", source.path));
        }
        let lines = without_tests(&source.text).lines().count();
        let longer = LONGER.iter().find(|(file, _)| *file == source.path);
        let most = longer.map_or(MAX_LINES, |(_, lines)| *lines);
        if lines > most && !source.is_test() {
            found.push(format!("{} has {lines} lines without its tests, more than {most}", source.path));
        }
        if longer.is_some() && lines <= MAX_LINES {
            found.push(format!("{} is short enough: drop its line in LONGER", source.path));
        }
    }
    nothing(found);
}

#[test]
fn the_reader_tells_code_from_text() {
    let read = code(
        "a::b /* c::d */ \"e::f\" 'x' '\\'' r#\"g::h\"# // i::j\n&'k l::m\n#[cfg(test)]\nmod tests {\nn::o",
    );
    for (word, is_code) in
        [("a", true), ("c", false), ("e", false), ("g", false), ("i", false), ("l", true), ("n", false)]
    {
        assert_eq!(names(&read, word), is_code, "{word} in {read}");
    }
    let used = used_modules("use crate::{id::{A, B}, event::C, model}; crate::store::x(); super::y");
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["event", "id", "model", "store"]);
}
