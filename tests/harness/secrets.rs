//! Looks for what must not be there: in files, in logs and on the wire, however it is written.

use std::{fs, path::Path};

/// Something that must not be found, in every form it could be written in.
pub(crate) struct Secret {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    /// A text: as it is, in hex and in UTF-16.
    pub(crate) fn text(text: &str) -> Self {
        let wide = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let forms = vec![text.as_bytes().to_vec(), hex::encode(text).into_bytes(), wide];
        Self { what: format!("{text:?}"), forms }
    }

    /// Bytes: as they are, in hex of either case, and as `{:?}` prints them.
    pub(crate) fn bytes(what: &str, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 16, "{what} is too short to look for");
        let hexed = hex::encode(bytes);
        let listed = format!("{bytes:?}");
        let listed = listed.trim_matches(['[', ']']).to_owned();
        let forms = vec![bytes.to_vec(), hexed.to_uppercase().into(), hexed.into(), listed.into()];
        Self { what: what.into(), forms }
    }

    /// An id that the API gives as a UUID or in hex.
    pub(crate) fn id(what: &str, id: &str) -> Self {
        let bytes = hex::decode(id.replace('-', "")).expect("an id");
        let mut secret = Self::bytes(&format!("{what} {id}"), &bytes);
        secret.forms.push(id.into());
        secret
    }

    /// What it is, for people.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Whether it is in there.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// Fails if one of the secrets is in there.
pub(crate) fn none_in(secrets: &[Secret], place: &str, bytes: &[u8]) {
    for secret in secrets {
        assert!(!secret.is_in(bytes), "{} is in {place}", secret.what);
    }
}

/// Fails if one of the secrets is in a file below `dir`, or a file is named after it.
pub(crate) fn none_on_disk(secrets: &[Secret], dir: &Path) {
    visit(dir, &mut |path| {
        let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
        none_in(secrets, &format!("the name {name}"), name.as_bytes());
        none_in(secrets, &format!("the file {name}"), &fs::read(path).expect("readable"));
    });
}

/// Fails if a log is not made of JSON objects alone, or holds a secret or an address.
pub(crate) fn none_in_log(secrets: &[Secret], log: &str) {
    assert!(log.lines().count() > 3, "a log was written");
    for line in log.lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for field in ["timestamp", "level", "fields", "target"] {
            assert!(!entry[field].is_null(), "no {field}: {line}");
        }
        none_in(secrets, &format!("the log: {line}"), line.as_bytes());
        for address in ["127.0.0.1", "/ip4/", "/tcp/", "/p2p/"] {
            assert!(!line.contains(address), "an address in the log: {line}");
        }
    }
}

fn visit(dir: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).expect("readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, each);
        } else if path.is_file() {
            each(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn a_planted_secret_is_found_in_every_form() {
        let key = [200; 32];
        let secrets = [Secret::text("bilby"), Secret::bytes("the key", &key)];
        let listed = format!("key={:?}!", key.to_vec());
        let planted: [Vec<u8>; 7] = [
            b"..bilby..".to_vec(),
            hex::encode("bilby").into(),
            "bilby".encode_utf16().flat_map(u16::to_le_bytes).collect(),
            [&b"key"[..], &key, b"!"].concat(),
            hex::encode(key).into(),
            hex::encode_upper(key).into(),
            listed.into(),
        ];
        for bytes in planted {
            assert!(catch_unwind(|| none_in(&secrets, "a test", &bytes)).is_err(), "{bytes:?}");
        }
        none_in(&secrets, "a test", b"b i l b y");
        let id = Secret::id("a space", "67e55044-10b1-426f-9247-bb680e5fe0c8");
        assert!(id.is_in(b"in 67e55044-10b1-426f-9247-bb680e5fe0c8."));
        assert!(id.is_in(b"in 67e5504410b1426f9247bb680e5fe0c8."));
    }

    #[test]
    fn a_planted_secret_is_found_in_a_file_and_in_a_name() {
        let secrets = [Secret::text("bilby")];
        for (name, content) in [("raw", "bilby"), ("bilby", ""), ("hex", "62696c6279")] {
            let dir = tempfile::tempdir().expect("a directory");
            let deep = dir.path().join("a").join("b");
            fs::create_dir_all(&deep).expect("directories");
            fs::write(deep.join("innocent"), "b i l b y").expect("written");
            none_on_disk(&secrets, dir.path());
            fs::write(deep.join(name), content).expect("written");
            assert!(catch_unwind(|| none_on_disk(&secrets, dir.path())).is_err(), "{name}");
        }
    }

    #[test]
    fn a_log_of_anything_but_entries_is_refused() {
        let entry = "{\"timestamp\":1,\"level\":\"INFO\",\"fields\":{},\"target\":\"x\"}\n";
        none_in_log(&[], &entry.repeat(4));
        for line in ["thread 'x' panicked\n", "{}\n", &entry.replace("{}", "{\"to\":\"/ip4/1.2.3.4\"}")] {
            assert!(catch_unwind(|| none_in_log(&[], &(entry.repeat(4) + line))).is_err(), "{line}");
        }
    }
}
