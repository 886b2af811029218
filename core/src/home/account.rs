//! Making accounts and logging in to them.
//!
//! Whether a name exists is told by CreateProfile alone, and only to those who may register.

use std::{net::IpAddr, time::Instant};

use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    AccountError, Inner, Login, NewProfile, registration,
    sessions::{Open, stop},
};
use crate::{
    clock::{now_ms, random},
    keys::{
        KeyError, RECOVERY, SessionToken, TOKEN, VaultKey, recovery_entropy, recovery_phrase, wrap_with_key,
    },
    session::Session,
    store::{
        StoreError, Vault,
        identity::{Identity, insert_login},
        server::{Account, Admission, InsertError, NewAccount, NewToken, VaultId},
    },
};

const MIN_PASSWORD_CHARS: usize = 8;

/// A CreateProfile that may be repeated: its id, and an HMAC of the rest of it but the password.
#[derive(Clone, Copy)]
struct Request {
    id: Uuid,
    hmac: [u8; 32],
}

/// What an account to be is made of, once its password was wrapped.
struct Draft {
    vault: VaultId,
    key: VaultKey,
    token: SessionToken,
    session: [u8; 16],
    account: NewAccount,
    identity: Identity,
    device_name: String,
}

impl Inner {
    /// Creates an account and logs in.
    pub(super) async fn create(
        &self,
        profile: NewProfile,
        from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        if let Some(retry_after) = self.attempts.creation_wait(from, Instant::now()) {
            return Err(AccountError::TooManyAttempts { retry_after });
        }
        let username = fold_username(&profile.username)?;
        if profile.password.chars().count() < MIN_PASSWORD_CHARS {
            return Err(AccountError::PasswordWeak);
        }
        let username_hmac = self.username_hmac(&username);
        let request = profile.request_id.map(|id| self.request(id, &username, &profile));
        if let Some(login) = self.repeat(request, &profile, from).await? {
            return Ok(login);
        }
        let admission = self.admission(&profile).await?;
        if self.store.account_by_name(&username_hmac).await?.is_some() {
            return Err(AccountError::UsernameTaken);
        }
        let draft = self.draft(&profile, &username, username_hmac, request, admission).await?;
        match self.found(draft).await {
            // The same request, or the same name, came in between.
            Err(FoundError::Exists) => {
                self.repeat(request, &profile, from).await?.ok_or(AccountError::UsernameTaken)
            }
            Err(FoundError::Account(error)) => Err(error),
            Ok(login) => Ok(login),
        }
    }

    /// Logs in.
    pub(super) async fn unlock(
        &self,
        username: &str,
        password: Zeroizing<String>,
        device_name: String,
        from: Option<IpAddr>,
    ) -> Result<Login, AccountError> {
        let username_hmac = self.username_hmac(&username.to_ascii_lowercase());
        let account = self.store.account_by_name(&username_hmac).await?;
        let key = self.check_password(&username_hmac, account.as_ref(), password, from).await?;
        let account = account.ok_or(AccountError::WrongCredentials)?;

        let slot = self.sessions.slot(account.vault);
        let mut slot = slot.lock().await;
        let was_open = slot.is_some();
        let login = self.log_in(&mut slot, account.vault, &key, device_name).await;
        if login.is_err() && !was_open {
            stop(&mut slot).await;
        }
        login
    }

    /// Opens the session if need be, and adds a login to it.
    async fn log_in(
        &self,
        slot: &mut Option<Open>,
        id: VaultId,
        key: &VaultKey,
        device_name: String,
    ) -> Result<Login, AccountError> {
        let session = self.open_session(slot, id, key).await?;
        let token = SessionToken::new(random());
        let login = new_token(key, &token)?;
        if let Some(Open { vault, .. }) = slot {
            name_login(vault, login.session, device_name).await?;
        }
        self.cover(id, key).await?;
        self.store.insert_token(id, &login, now_ms()).await?;
        self.tokens.insert(login.hash, id, &session, now_ms());
        Ok(answer(&session, &token, None))
    }

    /// The vault key, if the password is right. An unknown name takes the same work and ends the same.
    async fn check_password(
        &self,
        username_hmac: &[u8; 32],
        account: Option<&Account>,
        password: Zeroizing<String>,
        from: Option<IpAddr>,
    ) -> Result<VaultKey, AccountError> {
        let refused = || match self.attempts.login_wait(username_hmac, from, Instant::now()) {
            Some(retry_after) => Err(AccountError::TooManyAttempts { retry_after }),
            None => Ok(()),
        };
        refused()?;
        let turn = self.passwords.turn().await?;
        // Those who waited for the same turn may have failed meanwhile.
        refused()?;
        let wrap = account.map(|account| account.password_wrap.clone());
        let key = turn.unwrap(wrap, password).await?;
        key.ok_or_else(|| {
            self.attempts.login_failed(username_hmac, from, Instant::now());
            self.metrics.login_failures.inc();
            AccountError::WrongCredentials
        })
    }

    /// The answer that a request got before. It needs the password again, and its token still to be
    /// good: a revoked one stays revoked.
    async fn repeat(
        &self,
        request: Option<Request>,
        profile: &NewProfile,
        from: Option<IpAddr>,
    ) -> Result<Option<Login>, AccountError> {
        let Some(request) = request else { return Ok(None) };
        let Some(account) = self.store.account_by_request(request.id.as_bytes()).await? else {
            return Ok(None);
        };
        let same = account.request_hmac.as_ref().is_some_and(|hmac| hmac.ct_eq(&request.hmac).into());
        if !same {
            return Err(AccountError::RequestIdReused);
        }
        let password = profile.password.clone();
        let checked = self.check_password(&account.username_hmac, Some(&account), password, from).await;
        let key = checked.map_err(|error| match error {
            AccountError::WrongCredentials => AccountError::RequestIdReused,
            other => other,
        })?;
        let token = first_token(&key, request.id)?;
        let session = self.resume(&token, now_ms()).await.map_err(|error| match error {
            AccountError::TokenInvalid => AccountError::RequestIdReused,
            other => other,
        })?;
        Ok(Some(answer(&session, &token, Some(phrase(&key)?))))
    }

    async fn admission(&self, profile: &NewProfile) -> Result<Admission, AccountError> {
        if profile.registration_open {
            return Ok(Admission::Open);
        }
        let hash = registration::hash(&profile.registration_token);
        let valid = self.store.registration_is_valid(&hash, now_ms()).await?;
        if valid || self.store.is_empty().await? {
            Ok(Admission::Token(hash))
        } else {
            Err(AccountError::RegistrationClosed)
        }
    }

    async fn draft(
        &self,
        profile: &NewProfile,
        username: &str,
        username_hmac: [u8; 32],
        request: Option<Request>,
        admission: Admission,
    ) -> Result<Draft, AccountError> {
        let turn = self.passwords.turn().await?;
        let (key, password_wrap) = turn.wrap(VaultKey::new(random()), profile.password.clone()).await?;
        let recovery_wrap = wrap_with_key(&key, RECOVERY, recovery_entropy(&key)?.as_bytes(), &random())?;
        let machine_wrap = self.unlock_key.as_ref().map(|unlock| unlock.wrap(&key)).transpose()?;
        let token = match request {
            Some(request) => first_token(&key, request.id)?,
            None => SessionToken::new(random()),
        };
        let login = new_token(&key, &token)?;
        let vault = VaultId::random();
        let display_name = if profile.display_name.is_empty() { username } else { &profile.display_name };
        Ok(Draft {
            vault,
            session: login.session,
            account: NewAccount {
                vault,
                username_hmac,
                password_wrap,
                recovery_wrap,
                machine_wrap,
                request: request.map(|request| (*request.id.as_bytes(), request.hmac)),
                token: login,
                admission,
            },
            key,
            token,
            identity: Identity::generate(username, display_name, now_ms()),
            device_name: profile.device_name.clone(),
        })
    }

    /// Makes the vault, starts its session and adds the account, in this order: until the last, a crash
    /// or an error leaves nothing.
    async fn found(&self, draft: Draft) -> Result<Login, FoundError> {
        let vault = draft.vault;
        self.directory.begin(vault)?;
        let slot = self.sessions.slot(vault);
        let mut slot = slot.lock().await;
        let outcome = self.fill(&mut slot, draft).await;
        if outcome.is_ok() {
            self.directory.keep(vault)?;
        } else {
            stop(&mut slot).await;
            // Where this is not certain, the next start decides.
            if self.store.has_account(vault).await == Ok(false) {
                self.directory.discard(vault)?;
            }
        }
        outcome
    }

    async fn fill(&self, slot: &mut Option<Open>, draft: Draft) -> Result<Login, FoundError> {
        let Draft { vault: id, key, token, session: login, account, identity, device_name } = draft;
        let vault = Vault::create(&self.directory.vault(id), &key, &self.metrics).await?;
        let written: Result<(), StoreError> = vault
            .write(move |tx| {
                Box::pin(async move {
                    identity.insert(tx).await?;
                    insert_login(tx, login, &device_name, identity.created_at_ms).await
                })
            })
            .await;
        if let Err(error) = written {
            vault.close().await;
            return Err(error.into());
        }
        let session = self.sessions.start(slot, vault).await?;
        self.store.insert_account(&account, now_ms()).await?;
        self.tokens.insert(token.hash(), id, &session, now_ms());
        Ok(answer(&session, &token, Some(phrase(&key)?)))
    }

    fn username_hmac(&self, folded: &str) -> [u8; 32] {
        self.hmac(&[folded.as_bytes()])
    }

    fn request(&self, id: Uuid, username: &str, profile: &NewProfile) -> Request {
        let parts = ["request", username, &profile.display_name, &profile.device_name];
        let lengths = parts.map(|part| part.len().to_be_bytes());
        // Lengths first, so that no two requests are the same bytes; no user name is that long.
        Request { id, hmac: self.hmac(&[lengths.as_flattened(), parts.concat().as_bytes()]) }
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        // A key shorter than a block is padded with zeros (RFC 2104).
        let mut key = [0; 64];
        key.iter_mut().zip(self.store.salt()).for_each(|(byte, salt)| *byte = *salt);
        let mut hmac = Hmac::<Sha256>::new(&key.into());
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finalize().into_bytes().into()
    }
}

/// Why an account was not made.
enum FoundError {
    /// Its name or its request is there already.
    Exists,
    /// Anything else.
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for FoundError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

impl From<InsertError> for FoundError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Exists => Self::Exists,
            InsertError::NotAdmitted => Self::Account(AccountError::RegistrationClosed),
            InsertError::Store(error) => Self::Account(error.into()),
        }
    }
}

impl From<KeyError> for AccountError {
    fn from(error: KeyError) -> Self {
        tracing::error!(cause = %error, "a key could not be wrapped");
        Self::Store(StoreError::Database)
    }
}

async fn name_login(vault: &Vault, session: [u8; 16], device_name: String) -> Result<(), StoreError> {
    vault
        .write(move |tx| Box::pin(async move { insert_login(tx, session, &device_name, now_ms()).await }))
        .await
}

/// Folds a name to lower case.
fn fold_username(name: &str) -> Result<String, AccountError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (2..=32).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name.to_ascii_lowercase())
    } else {
        Err(AccountError::UsernameInvalid)
    }
}

/// The token that answers a creation request, the same each time it is asked.
fn first_token(key: &VaultKey, request: Uuid) -> Result<SessionToken, KeyError> {
    let mut token = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, key.as_bytes())
        .expand_multi_info(&[b"sp/first-token/1", request.as_bytes()], token.as_mut_slice())
        .map_err(|_| KeyError::Derivation)?;
    Ok(SessionToken::new(token))
}

fn new_token(key: &VaultKey, token: &SessionToken) -> Result<NewToken, KeyError> {
    let wrap = wrap_with_key(key, TOKEN, token.as_bytes(), &random())?;
    Ok(NewToken { hash: token.hash(), session: *random(), wrap })
}

fn phrase(key: &VaultKey) -> Result<Zeroizing<String>, KeyError> {
    recovery_phrase(&recovery_entropy(key)?)
}

fn answer(session: &Session, token: &SessionToken, recovery_phrase: Option<Zeroizing<String>>) -> Login {
    let profile = session.profile();
    Login {
        token: token.text(),
        account: profile.account,
        username: profile.username,
        display_name: profile.display_name,
        peer_id: profile.peer_id,
        listen_addresses: profile.listen_addresses,
        recovery_phrase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_or_refused() {
        for (name, folded) in [("Ann", "ann"), ("a.B_c-9", "a.b_c-9"), ("..", "..")] {
            assert_eq!(fold_username(name).unwrap(), folded);
        }
        let long = "a".repeat(33);
        for name in ["", "a", "an n", "änn", "\u{212a}en", "a\0b", "a/b", &long] {
            assert!(matches!(fold_username(name), Err(AccountError::UsernameInvalid)), "{name:?}");
        }
        assert!(fold_username(&"a".repeat(32)).is_ok());
    }

    #[test]
    fn the_first_token_follows_from_key_and_request() {
        let (key, other) = (VaultKey::new(random()), VaultKey::new(random()));
        let (id, another) = (Uuid::new_v4(), Uuid::new_v4());
        let hash = |key, id| first_token(key, id).unwrap().hash();
        assert_eq!(hash(&key, id), hash(&key, id));
        assert_ne!(hash(&key, id), hash(&key, another));
        assert_ne!(hash(&key, id), hash(&other, id));
    }
}
