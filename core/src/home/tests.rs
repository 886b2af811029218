//! Accounts as their users meet them: a home server over a data directory, without its API.

use std::{fs, path::Path};

use futures::future::join_all;

use sqlx::{Connection as _, SqliteConnection, query_as, sqlite::SqliteConnectOptions};

use super::*;
use crate::{
    keys::{RECOVERY, parse_recovery_phrase, unwrap_with_key},
    router::Address,
    store::{Vault, identity::Identity, server::VaultId},
};

const PASSWORD: &str = "correct horse";
const MONTH: Duration = Duration::from_secs(30 * 24 * 3_600);

struct Fixture {
    directory: tempfile::TempDir,
    config: HomeConfig,
    home: Arc<Home>,
}

impl Fixture {
    async fn new() -> Self {
        Self::with(|_, _| {}).await
    }

    async fn with(change: impl FnOnce(&mut HomeConfig, &Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = HomeConfig {
            data_dir: directory.path().join("data"),
            token_idle: MONTH,
            unlock_key_file: None,
            network: NetworkConfig {
                listen: Address::parse("/ip4/127.0.0.1/tcp/0").unwrap(),
                announce: vec![],
            },
        };
        change(&mut config, directory.path());
        let home = Home::open(config.clone(), Metrics::default()).await.unwrap();
        Self { directory, config, home }
    }

    async fn restart(&mut self) {
        self.home.shutdown().await;
        self.home = Home::open(self.config.clone(), Metrics::default()).await.unwrap();
    }

    async fn create(&self, profile: NewProfile) -> Result<Login, AccountError> {
        self.home.create_profile(profile, None).await
    }

    async fn unlock(&self, username: &str, password: &str) -> Result<Login, AccountError> {
        self.home.unlock(username, Zeroizing::new(password.to_owned()), "Ann's laptop", None).await
    }

    async fn token_is_valid(&self, token: &str) -> bool {
        match self.home.authenticate(token).await {
            Ok(_) => true,
            Err(AccountError::TokenInvalid) => false,
            Err(other) => panic!("{other}"),
        }
    }

    fn running_sessions(&self) -> usize {
        let slots = self.home.inner.sessions.all();
        slots.iter().filter(|(_, slot)| slot.try_lock().unwrap().is_some()).count()
    }

    fn vault_files(&self, extension: &str) -> usize {
        let files = fs::read_dir(self.config.data_dir.join("vaults")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().unwrap() == extension).count()
    }
}

fn profile(username: &str) -> NewProfile {
    NewProfile {
        username: username.to_owned(),
        password: Zeroizing::new(PASSWORD.to_owned()),
        display_name: "Ann of the Hill".to_owned(),
        device_name: "Ann's phone".to_owned(),
        request_id: None,
        registration_token: Zeroizing::new(String::new()),
        registration_open: true,
    }
}

#[tokio::test]
async fn a_login_is_found_by_folded_name_and_password_only() {
    let fixture = Fixture::new().await;
    let created = fixture.create(profile("Ann")).await.unwrap();
    assert_eq!((created.username.as_str(), created.display_name.as_str()), ("ann", "Ann of the Hill"));
    assert_eq!(created.recovery_phrase.unwrap().split(' ').count(), 12);

    let unlocked = fixture.unlock("aNN", PASSWORD).await.unwrap();
    assert!(unlocked.account == created.account && unlocked.token != created.token);
    assert!(unlocked.recovery_phrase.is_none());
    for (name, password) in [("ann", "correct horsf"), ("ben", PASSWORD), ("not a name", PASSWORD)] {
        let refused = fixture.unlock(name, password).await;
        assert!(matches!(refused, Err(AccountError::WrongCredentials)), "{name}");
    }
}

#[tokio::test]
async fn the_phrase_that_is_shown_opens_the_vault() {
    let fixture = Fixture::new().await;
    let shown = fixture.create(profile("ann")).await.unwrap();
    let other = fixture.create(profile("ben")).await.unwrap();
    fixture.home.shutdown().await;

    let path = fixture.config.data_dir.join("server.db");
    let mut server =
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let stored: Vec<(Vec<u8>, Vec<u8>)> =
        query_as("SELECT vault_id, recovery_wrap FROM account ORDER BY created_at, vault_id")
            .fetch_all(&mut server)
            .await
            .unwrap();
    assert_eq!(stored.len(), 2);
    for login in [&shown, &other] {
        let entropy = parse_recovery_phrase(login.recovery_phrase.as_ref().unwrap()).unwrap();
        let opened = stored.iter().filter_map(|(vault, wrap)| {
            Some((vault, unwrap_with_key(wrap, RECOVERY, entropy.as_bytes()).ok()?))
        });
        let opened: Vec<_> = opened.collect();
        let [(vault, key)] = &opened[..] else { panic!("it opens {} wraps", opened.len()) };
        let path = fixture.config.data_dir.join("vaults").join(format!("{}.db", hex::encode(vault)));
        let vault = Vault::open(&path, key, &Metrics::default()).await.unwrap();
        let identity = Identity::load(vault.read().await.unwrap().conn()).await.unwrap();
        assert!(identity.certificate.account == login.account);
        vault.close().await;
    }
}

#[tokio::test]
async fn unfit_profiles_are_refused() {
    let fixture = Fixture::new().await;
    fixture.create(profile("ann")).await.unwrap();
    assert!(matches!(fixture.create(profile("ANN")).await, Err(AccountError::UsernameTaken)));
    assert!(matches!(fixture.create(profile("an n")).await, Err(AccountError::UsernameInvalid)));
    let mut weak = profile("ben");
    weak.password = Zeroizing::new("ääääääa".to_owned());
    assert!(matches!(fixture.create(weak).await, Err(AccountError::PasswordWeak)));
    let mut unnamed = profile("ben");
    unnamed.display_name = String::new();
    assert_eq!(fixture.create(unnamed).await.unwrap().display_name, "ben");
    assert_eq!(fixture.vault_files("db"), 2);
}

#[tokio::test]
async fn one_name_is_given_once_and_the_loser_leaves_nothing() {
    let fixture = Fixture::new().await;
    let results = tokio::join!(fixture.create(profile("ann")), fixture.create(profile("Ann")));
    let results = [results.0, results.1];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().any(|result| matches!(result, Err(AccountError::UsernameTaken))));
    assert_eq!((fixture.vault_files("db"), fixture.vault_files("creating")), (1, 0));
    assert_eq!(fixture.running_sessions(), 1);
}

#[tokio::test]
async fn a_token_brings_the_account_back_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let login = fixture.create(profile("ann")).await.unwrap();
    fixture.restart().await;
    assert_eq!(fixture.running_sessions(), 0);
    let sessions = join_all((0..20).map(|_| fixture.home.authenticate(&login.token))).await;
    let sessions: Vec<_> = sessions.into_iter().map(Result::unwrap).collect();
    assert!(sessions.iter().all(|session| Arc::ptr_eq(session, &sessions[0])));
    assert!(sessions[0].profile().account == login.account);
}

#[tokio::test]
async fn a_session_that_ended_by_itself_is_opened_again() {
    let fixture = Fixture::new().await;
    let login = fixture.create(profile("ann")).await.unwrap();
    let ended = fixture.home.authenticate(&login.token).await.unwrap();
    ended.stop().await;
    let again = fixture.home.authenticate(&login.token).await.unwrap();
    assert!(!Arc::ptr_eq(&ended, &again) && !again.stopped().is_cancelled());
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_the_last_one_ends_the_session() {
    let mut fixture = Fixture::new().await;
    let first = fixture.create(profile("ann")).await.unwrap();
    let second = fixture.unlock("ann", PASSWORD).await.unwrap();
    let third = fixture.unlock("ann", PASSWORD).await.unwrap();
    let session = fixture.home.authenticate(&first.token).await.unwrap();

    fixture.home.lock(&second.token, false).await.unwrap();
    assert!(!fixture.token_is_valid(&second.token).await);
    assert!(fixture.token_is_valid(&first.token).await);
    assert!(matches!(fixture.home.lock(&second.token, true).await, Err(AccountError::TokenInvalid)));

    fixture.home.lock(&first.token, true).await.unwrap();
    assert!(session.stopped().is_cancelled());
    assert_eq!(fixture.running_sessions(), 0);
    fixture.restart().await;
    for token in [first.token, second.token, third.token] {
        assert!(!fixture.token_is_valid(&token).await);
    }
    fixture.unlock("ann", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn an_idle_token_expires() {
    let mut fixture = Fixture::new().await;
    let login = fixture.create(profile("ann")).await.unwrap();
    fixture.config.token_idle = Duration::ZERO;
    fixture.restart().await;
    assert!(!fixture.token_is_valid(&login.token).await);
    // Its wrap is gone, not only refused.
    fixture.config.token_idle = MONTH;
    fixture.restart().await;
    assert!(!fixture.token_is_valid(&login.token).await);
}

#[tokio::test]
async fn expiry_of_the_last_token_ends_the_session() {
    let fixture = Fixture::with(|config, _| config.token_idle = Duration::ZERO).await;
    let login = fixture.create(profile("ann")).await.unwrap();
    assert_eq!(fixture.running_sessions(), 1);
    assert!(!fixture.token_is_valid(&login.token).await);
    fixture.home.inner.sweep().await.unwrap();
    assert_eq!(fixture.running_sessions(), 0);
}

#[tokio::test]
async fn garbage_is_not_a_token() {
    let fixture = Fixture::new().await;
    let unknown = crate::keys::SessionToken::new(crate::clock::random()).text();
    for token in ["", "x", &"A".repeat(10_000), unknown.as_str()] {
        assert!(!fixture.token_is_valid(token).await);
    }
}

#[tokio::test]
async fn registration_needs_a_token_once_there_is_an_account() {
    let fixture = Fixture::new().await;
    let closed = |username: &str, token: &str| NewProfile {
        registration_open: false,
        registration_token: Zeroizing::new(token.to_owned()),
        ..profile(username)
    };
    fixture.create(closed("ann", "")).await.unwrap();
    let token = registration_token(&fixture.config.data_dir, Duration::from_secs(60)).await.unwrap();
    let expired = registration_token(&fixture.config.data_dir, Duration::ZERO).await.unwrap();
    for wrong in ["", "x", &expired] {
        // A stranger does not learn that a name is taken.
        let refused = fixture.create(closed("ann", wrong)).await;
        assert!(matches!(refused, Err(AccountError::RegistrationClosed)));
    }
    fixture.create(closed("ben", &token)).await.unwrap();
    let refused = fixture.create(closed("cat", &token)).await;
    assert!(matches!(refused, Err(AccountError::RegistrationClosed)));
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer() {
    let mut fixture = Fixture::new().await;
    let request_id = Some(Uuid::new_v4());
    let request = || NewProfile { request_id, ..profile("ann") };
    let (first, second) = tokio::join!(fixture.create(request()), fixture.create(request()));
    let (first, second) = (first.unwrap(), second.unwrap());
    fixture.restart().await;
    let third = fixture.create(request()).await.unwrap();
    for again in [second, third] {
        assert!(again.token == first.token && again.account == first.account);
        assert_eq!(again.recovery_phrase, first.recovery_phrase);
    }
    assert_eq!((fixture.vault_files("db"), fixture.vault_files("creating")), (1, 0));

    let other_password = Zeroizing::new("another password".to_owned());
    for other in [
        NewProfile { username: "ben".to_owned(), ..request() },
        NewProfile { display_name: "Anna".to_owned(), ..request() },
        NewProfile { device_name: "tablet".to_owned(), ..request() },
        NewProfile { password: other_password, ..request() },
    ] {
        assert!(matches!(fixture.create(other).await, Err(AccountError::RequestIdReused)));
    }
    // What was revoked stays revoked.
    fixture.home.lock(&first.token, false).await.unwrap();
    assert!(matches!(fixture.create(request()).await, Err(AccountError::RequestIdReused)));
    assert!(!fixture.token_is_valid(&first.token).await);
}

#[tokio::test]
async fn repeated_failures_close_an_account_for_a_while() {
    let fixture = Fixture::new().await;
    let id = Uuid::new_v4();
    let request_id = Some(id);
    fixture.create(NewProfile { request_id, ..profile("ann") }).await.unwrap();
    let account = fixture.home.inner.store.account_by_request(id.as_bytes()).await.unwrap();
    let username_hmac = account.unwrap().username_hmac;
    for _ in 0..9 {
        fixture.home.inner.attempts.login_failed(&username_hmac, None, std::time::Instant::now());
    }
    fixture.unlock("ann", PASSWORD).await.unwrap();
    assert!(matches!(fixture.unlock("ANN", "wrong").await, Err(AccountError::WrongCredentials)));
    let Err(AccountError::TooManyAttempts { retry_after }) = fixture.unlock("ann", PASSWORD).await else {
        panic!("the right password must wait, too");
    };
    assert!(retry_after <= Duration::from_secs(30) && retry_after > Duration::from_secs(20));
    // Repeating CreateProfile is no way around.
    let again = fixture.create(NewProfile { request_id, ..profile("ann") }).await;
    assert!(matches!(again, Err(AccountError::TooManyAttempts { .. })));
}

#[tokio::test]
async fn one_address_cannot_make_accounts_without_end() {
    let fixture = Fixture::new().await;
    let stranger = Some("203.0.113.5".parse().unwrap());
    for _ in 0..20 {
        let refused = fixture.home.create_profile(profile("?"), stranger).await;
        assert!(matches!(refused, Err(AccountError::UsernameInvalid)));
    }
    let refused = fixture.home.create_profile(profile("ann"), stranger).await;
    assert!(matches!(refused, Err(AccountError::TooManyAttempts { .. })));
}

#[tokio::test]
async fn no_file_holds_a_name_a_password_or_a_token() {
    let fixture = Fixture::with(|config, root| config.unlock_key_file = Some(root.join("unlock.key"))).await;
    let login = fixture.create(profile("ann.of-the-hill")).await.unwrap();
    let registration = registration_token(&fixture.config.data_dir, MONTH).await.unwrap();
    let token = super::login::parse(&login.token).unwrap();
    let needles: [&[u8]; 8] = [
        b"ann.of-the-hill",
        b"Ann of the Hill",
        b"Ann's phone",
        PASSWORD.as_bytes(),
        login.token.as_bytes(),
        token.as_bytes(),
        registration.as_bytes(),
        login.account.as_bytes(),
    ];
    let vaults = fixture.config.data_dir.join("vaults");
    let mut files = 0;
    for folder in [&fixture.config.data_dir, &vaults] {
        for file in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let Ok(bytes) = fs::read(file.path()) else { continue };
            files += 1;
            for needle in needles {
                assert!(!bytes.windows(needle.len()).any(|window| window == needle), "{:?}", file.path());
            }
        }
    }
    assert!(files >= 4, "{files}");
}

#[tokio::test]
async fn the_unlock_key_brings_accounts_back_until_they_are_locked() {
    let mut fixture =
        Fixture::with(|config, root| config.unlock_key_file = Some(root.join("unlock.key"))).await;
    let login = fixture.create(profile("ann")).await.unwrap();
    fixture.restart().await;
    assert_eq!(fixture.running_sessions(), 1);

    // Another key opens nothing, and is no reason not to start.
    fixture.config.unlock_key_file = Some(fixture.directory.path().join("other.key"));
    fixture.restart().await;
    assert_eq!(fixture.running_sessions(), 0);
    fixture.unlock("ann", PASSWORD).await.unwrap();
    fixture.restart().await;
    assert_eq!(fixture.running_sessions(), 1);

    fixture.home.lock(&login.token, true).await.unwrap();
    fixture.restart().await;
    assert_eq!(fixture.running_sessions(), 0);
}

#[tokio::test]
async fn an_expired_login_does_not_end_what_the_machine_keeps_up() {
    let fixture = Fixture::with(|config, root| {
        config.unlock_key_file = Some(root.join("unlock.key"));
        config.token_idle = Duration::ZERO;
    })
    .await;
    fixture.create(profile("ann")).await.unwrap();
    fixture.home.inner.sweep().await.unwrap();
    assert_eq!(fixture.running_sessions(), 1);
}

#[tokio::test]
async fn what_a_crash_left_of_an_account_is_removed_and_nothing_else() {
    let mut fixture = Fixture::new().await;
    let login = fixture.create(profile("ann")).await.unwrap();
    fixture.home.shutdown().await;
    let vaults = fixture.config.data_dir.join("vaults");
    let half = hex::encode([7; 16]);
    for name in ["db", "db-journal", "db-wal", "creating"].map(|extension| format!("{half}.{extension}")) {
        fs::write(vaults.join(name), b"half").unwrap();
    }
    let stranger = vaults.join(format!("{}.db", hex::encode([8; 16])));
    fs::write(&stranger, b"put here by a backup").unwrap();
    // The crash came between the account's row and the removal of its mark.
    let mut finished = fs::read_dir(&vaults).unwrap().map(|file| file.unwrap().path());
    let finished = finished.find(|path| fs::read(path).unwrap().len() > 1_000).unwrap();
    fs::write(finished.with_extension("creating"), b"").unwrap();

    fixture.home = Home::open(fixture.config.clone(), Metrics::default()).await.unwrap();
    assert_eq!((fixture.vault_files("db"), fixture.vault_files("creating")), (2, 0));
    assert_eq!(fixture.vault_files("db-journal"), 0);
    assert!(stranger.exists());
    assert!(fixture.token_is_valid(&login.token).await);
}

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let fixture = Fixture::new().await;
    let second = Home::open(fixture.config.clone(), Metrics::default()).await;
    assert!(matches!(second, Err(AccountError::DataDirInUse)));
    fixture.home.shutdown().await;
    Home::open(fixture.config.clone(), Metrics::default()).await.unwrap();
}

#[tokio::test]
async fn nothing_is_served_after_shutdown() {
    let fixture = Fixture::new().await;
    let login = fixture.create(profile("ann")).await.unwrap();
    let session = fixture.home.authenticate(&login.token).await.unwrap();
    fixture.home.shutdown().await;
    assert!(session.stopped().is_cancelled());
    assert!(matches!(fixture.home.authenticate(&login.token).await, Err(AccountError::Stopping)));
    assert!(matches!(fixture.unlock("ann", PASSWORD).await, Err(AccountError::Stopping)));
    assert!(matches!(fixture.create(profile("ben")).await, Err(AccountError::Stopping)));
    fixture.home.shutdown().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_a_whole_account() {
    let fixture = Fixture::new().await;
    let mut creating = Box::pin(fixture.create(profile("ann")));
    assert!(futures::poll!(&mut creating).is_pending());
    drop(creating);
    let created = async {
        while fixture.vault_files("db") == 0 || fixture.vault_files("creating") > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), created).await.unwrap();
    fixture.unlock("ann", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn tokens_stay_with_their_account() {
    let fixture = Fixture::new().await;
    let (ann, ben) = (fixture.create(profile("ann")).await, fixture.create(profile("ben")).await);
    let (ann, ben) = (ann.unwrap(), ben.unwrap());
    assert!(ann.account != ben.account && ann.peer_id != ben.peer_id);
    fixture.home.lock(&ann.token, true).await.unwrap();
    let session = fixture.home.authenticate(&ben.token).await.unwrap();
    assert!(session.profile().account == ben.account);
    let slots = fixture.home.inner.sessions.all();
    let ids: std::collections::HashSet<VaultId> = slots.iter().map(|(vault, _)| *vault).collect();
    assert_eq!((ids.len(), fixture.running_sessions()), (2, 1));
}
