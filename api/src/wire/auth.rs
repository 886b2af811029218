//! Accounts and logins on the wire.

use spacepanda_core::home::{Login, NewProfile};
use spacepanda_proto::api::v1 as wire;
use zeroize::Zeroizing;

use super::{FromWire, IntoWire, field};
use crate::status::Refusal;

/// Bytes of a user name, password or registration token that are looked at; hashing is costly.
const MAX_CREDENTIAL: usize = 1024;

/// A checked Unlock.
pub(crate) struct Unlock {
    /// As typed; the core folds it.
    pub(crate) username: String,
    /// Secret.
    pub(crate) password: Zeroizing<String>,
    /// What the login is called.
    pub(crate) device_name: String,
}

/// Registration is closed until the service says otherwise.
impl FromWire<wire::CreateProfileRequest> for NewProfile {
    fn from_wire(wire: wire::CreateProfileRequest) -> Result<Self, Refusal> {
        let password = Zeroizing::new(wire.password);
        let registration_token = Zeroizing::new(wire.registration_token);
        bounded("username", &wire.username)?;
        bounded("password", &password)?;
        bounded("registration_token", &registration_token)?;
        Ok(Self {
            username: wire.username,
            password,
            display_name: field::optional_name("display_name", &wire.display_name)?,
            device_name: field::optional_name("device_name", &wire.device_name)?,
            request_id: field::request_id(&wire.request_id)?,
            registration_token,
            registration_open: false,
        })
    }
}

impl FromWire<wire::UnlockRequest> for Unlock {
    fn from_wire(wire: wire::UnlockRequest) -> Result<Self, Refusal> {
        let password = Zeroizing::new(wire.password);
        bounded("username", &wire.username)?;
        bounded("password", &password)?;
        let device_name = field::optional_name("device_name", &wire.device_name)?;
        Ok(Self { username: wire.username, password, device_name })
    }
}

impl IntoWire for Login {
    type Wire = wire::Session;

    fn into_wire(self) -> wire::Session {
        wire::Session {
            session_token: self.token.to_string(),
            account_id: self.account.to_string(),
            username: self.username,
            display_name: self.display_name,
            peer_id: self.peer_id,
            listen_addresses: self.listen_addresses,
            recovery_phrase: self.recovery_phrase.map(|phrase| phrase.to_string()).unwrap_or_default(),
        }
    }
}

fn bounded(field: &'static str, text: &str) -> Result<(), Refusal> {
    if text.len() > MAX_CREDENTIAL { Err(Refusal::field(field, "is too long")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::field::refused_field;

    fn request() -> wire::CreateProfileRequest {
        wire::CreateProfileRequest {
            username: "alice".into(),
            password: "correct horse".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_plain_profile_is_taken() {
        let profile = NewProfile::from_wire(request()).unwrap();
        assert_eq!((profile.username.as_str(), profile.display_name.as_str()), ("alice", ""));
        assert!(!profile.registration_open);
    }

    #[test]
    fn bad_fields_are_named() {
        let long = "a".repeat(2000);
        for (name, change) in [
            ("username", wire::CreateProfileRequest { username: long.clone(), ..request() }),
            ("password", wire::CreateProfileRequest { password: long.clone(), ..request() }),
            (
                "registration_token",
                wire::CreateProfileRequest { registration_token: long.clone(), ..request() },
            ),
            ("display_name", wire::CreateProfileRequest { display_name: "a\u{7}".into(), ..request() }),
            ("device_name", wire::CreateProfileRequest { device_name: "a".repeat(101), ..request() }),
            ("request_id", wire::CreateProfileRequest { request_id: "1".into(), ..request() }),
        ] {
            assert_eq!(refused_field(NewProfile::from_wire(change)), name);
        }
        let unlock = wire::UnlockRequest { device_name: "a\nb".into(), ..Default::default() };
        assert_eq!(refused_field(Unlock::from_wire(unlock)), "device_name");
    }
}
