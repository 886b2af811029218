//! Accounts and logins: signup, login, logout, whoami.
//!
//! Tokens go to the credentials file and nowhere else.

use std::path::PathBuf;

use serde_json::{Value, json};
use spacepanda_proto::api::v1 as api;
use uuid::Uuid;

use super::{
    connect::{CALL_DEADLINE, Caller, SLOW_CALL_DEADLINE},
    credentials::{Login, Token},
    failure::{Failure, FailureKind, Outcome},
    output::{Output, bold, printable_line},
    secret::{self, Purpose},
};

/// Arguments of `signup`.
#[derive(Debug, Clone, clap::Args)]
pub struct Signup {
    /// The user name: a-z, 0-9, dot, dash and underscore, 2 to 32 characters
    name: String,
    /// What others see; the user name when not given
    #[arg(long, default_value = "")]
    display_name: String,
    /// What this login is called in the list of logins
    #[arg(long, default_value = "command line")]
    device_name: String,
    /// File with the registration token that the server's operator gave out, where registration is not open;
    /// else the environment's SPACEPANDA_REGISTRATION_TOKEN
    #[arg(long, value_name = "FILE")]
    registration_token_file: Option<PathBuf>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Arguments of `login`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogIn {
    /// The user name
    name: String,
    /// What this login is called in the list of logins
    #[arg(long, default_value = "command line")]
    device_name: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Arguments of `logout`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LogOut {
    /// End every login of the account, not only this one
    #[arg(long)]
    everywhere: bool,
}

/// Creates an account and logs in.
///
/// # Errors
/// When the server refuses, or the login cannot be stored.
pub(super) async fn signup(caller: &Caller, out: Output, args: Signup) -> Result<Outcome, Failure> {
    let registration_token = secret::registration_token(args.registration_token_file.as_deref())?;
    let client = caller.connect().await?;
    let password = secret::password(args.password_stdin, Purpose::Choose)?;
    let request = api::CreateProfileRequest {
        username: args.name,
        password: password.to_string(),
        display_name: args.display_name,
        device_name: args.device_name,
        registration_token: registration_token.to_string(),
        request_id: Uuid::new_v4().to_string(),
    };
    let call = || async { client.auth().create_profile(request.clone()).await };
    let session = client.call(SLOW_CALL_DEADLINE, call).await?;
    // The phrase is shown only this once: print it even if the login cannot be stored.
    out.show(|| session_json(&session, caller), || signed_up(&session))?;
    store(caller, &session)?;
    Ok(Outcome::Done)
}

/// Logs in.
///
/// # Errors
/// When the server refuses, or the login cannot be stored.
pub(super) async fn login(caller: &Caller, out: Output, args: LogIn) -> Result<Outcome, Failure> {
    let client = caller.connect().await?;
    let password = secret::password(args.password_stdin, Purpose::Enter)?;
    let request = api::UnlockRequest {
        username: args.name,
        password: password.to_string(),
        device_name: args.device_name,
    };
    let call = || async { client.auth().unlock(request.clone()).await };
    let session = client.call(SLOW_CALL_DEADLINE, call).await?;
    store(caller, &session)?;
    out.show(|| session_json(&session, caller), || greeting(&session))?;
    Ok(Outcome::Done)
}

/// Ends the login, here and on the server.
///
/// # Errors
/// When the server cannot be told; the login is then kept.
pub(super) async fn logout(caller: &Caller, out: Output, args: LogOut) -> Result<Outcome, Failure> {
    let client = caller.connect_logged_in().await?;
    let request = api::LockRequest { everywhere: args.everywhere };
    let locked = client.call_once(CALL_DEADLINE, async { client.auth().lock(request).await }).await;
    match locked {
        Ok(_) => {}
        // The token had ended already: there is nothing left to revoke.
        Err(failure) if failure.kind == FailureKind::NotLoggedIn => {}
        Err(failure) => return Err(failure),
    }
    caller.credentials.forget(&caller.profile)?;
    out.show(|| json!({"logged_out": true, "everywhere": args.everywhere}), || "Logged out.".to_owned())?;
    Ok(Outcome::Done)
}

/// Says who is logged in, as the server sees it.
///
/// # Errors
/// When not logged in, or the server does not accept the login any more.
pub(super) async fn whoami(caller: &Caller, out: Output) -> Result<Outcome, Failure> {
    let login = caller.logged_in()?;
    let client = caller.connect_logged_in().await?;
    let call = || async { client.network().get_network_status(api::GetNetworkStatusRequest {}).await };
    let status = client.call(CALL_DEADLINE, call).await?;
    let document = || {
        json!({
            "username": login.username,
            "display_name": login.display_name,
            "account_id": login.account_id,
            "server": login.server,
            "profile": caller.profile,
            "peer_id": status.peer_id,
            "listen_addresses": status.listen_addresses,
        })
    };
    let text = || {
        let mut lines = vec![
            format!("{} ({})", bold(&printable_line(&login.display_name)), printable_line(&login.username)),
            format!("account  {}", login.account_id),
            format!("server   {}", login.server),
        ];
        lines.extend(status.listen_addresses.iter().map(|address| format!("address  {address}")));
        lines.join("\n")
    };
    out.show(document, text)?;
    Ok(Outcome::Done)
}

fn store(caller: &Caller, session: &api::Session) -> Result<(), Failure> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let login = Login {
        server: caller.server.clone(),
        ca: caller.ca.as_ref().map(absolute),
        username: session.username.clone(),
        display_name: session.display_name.clone(),
        account_id: session.account_id.clone(),
        session_token: Token::from(session.session_token.clone()),
    };
    Ok(caller.credentials.store(&caller.profile, login)?)
}

/// Without the token: it is in the credentials file.
fn session_json(session: &api::Session, caller: &Caller) -> Value {
    let mut document = json!({
        "account_id": session.account_id,
        "username": session.username,
        "display_name": session.display_name,
        "peer_id": session.peer_id,
        "listen_addresses": session.listen_addresses,
        "server": caller.server,
        "profile": caller.profile,
    });
    if let (Some(fields), false) = (document.as_object_mut(), session.recovery_phrase.is_empty()) {
        fields.insert("recovery_phrase".into(), session.recovery_phrase.clone().into());
    }
    document
}

fn greeting(session: &api::Session) -> String {
    let name = printable_line(&session.display_name);
    let mut lines = vec![format!("Logged in as {}.", bold(&name))];
    lines.extend(session.listen_addresses.first().map(|address| format!("Others connect to {address}")));
    lines.join("\n")
}

fn signed_up(session: &api::Session) -> String {
    if session.recovery_phrase.is_empty() {
        return greeting(session);
    }
    [
        greeting(session),
        String::new(),
        "Write these words down on paper, in this order, and keep them: they are to let you".to_owned(),
        "back in when the password is forgotten. This version does not take them yet, but".to_owned(),
        "they are shown only this once:".to_owned(),
        String::new(),
        format!("    {}", bold(&session.recovery_phrase)),
        String::new(),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::options::ClientOptions;

    fn session() -> api::Session {
        api::Session {
            session_token: "5ec4e7".into(),
            username: "alice".into(),
            display_name: "Alice".into(),
            recovery_phrase: "one two three".into(),
            ..Default::default()
        }
    }

    fn caller(directory: &std::path::Path) -> Caller {
        let options = ClientOptions {
            config_dir: Some(directory.to_owned()),
            profile: "default".into(),
            ..Default::default()
        };
        Caller::new(&options).unwrap()
    }

    #[test]
    fn the_token_is_stored_and_never_shown() {
        let directory = tempfile::tempdir().unwrap();
        let before = caller(directory.path());
        store(&before, &session()).unwrap();
        let login = caller(directory.path()).login.unwrap();
        assert_eq!(login.session_token.expose(), "5ec4e7");
        assert!(!session_json(&session(), &before).to_string().contains("5ec4e7"));
        assert!(!signed_up(&session()).contains("5ec4e7"));
    }

    #[test]
    fn the_recovery_phrase_is_shown_at_signup_only() {
        assert!(signed_up(&session()).contains("one two three"));
        assert!(signed_up(&session()).contains("Write these words down"));
        let directory = tempfile::tempdir().unwrap();
        let login = api::Session { recovery_phrase: String::new(), ..session() };
        assert!(session_json(&login, &caller(directory.path())).get("recovery_phrase").is_none());
    }
}
