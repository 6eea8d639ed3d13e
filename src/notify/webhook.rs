//! A webhook that Slack and those like it take: a JSON object whose `text` is the notice.
//!
//! `docs/notices.md` documents the signature. No redirect is followed and no proxy is asked, so that what is
//! configured is what is spoken to; of the answer only the status is read. An address is as good as a password:
//! it is in no error and no log.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url, redirect};
use sha2::Sha256;

use super::harmless::chat;
use super::hidden::{Found, Hidden};
use super::{NotDelivered, Notice, Notifier};
use crate::causes::with_causes;
use crate::time::Timestamp;

/// From the look-up of the name to the status of the answer.
const DEADLINE: Duration = Duration::from_secs(10);

const TIMESTAMP: &str = "x-countersign-timestamp";
const SIGNATURE: &str = "x-countersign-signature";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookPlan {
    url: Found,
    secret: Option<Found>,
}

/// Why nothing is sent to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("it is not an address such as https://chat.example.org/hooks/…")]
    Form,
    #[error("it is not https: whoever is on the way would read and answer")]
    Plain,
    #[error("it leads to this machine's own network, where clouds keep their secrets")]
    LinkLocal,
    #[error("it holds a name and a password")]
    Userinfo,
}

impl WebhookPlan {
    /// Takes https to anywhere but the local link, and http to this machine.
    pub fn new(url: Found, secret: Option<Found>) -> Result<Self, BadUrl> {
        if let Found::Here(url) = &url {
            check(url)?;
        }
        Ok(Self { url, secret })
    }

    pub(super) fn open(&self) -> Webhook {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(DEADLINE)
            .pool_max_idle_per_host(0)
            .http1_only()
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build();
        Webhook { plan: self.clone(), client }
    }
}

fn check(url: &Hidden) -> Result<Url, BadUrl> {
    let url = Url::parse(url.reveal()).map_err(|_| BadUrl::Form)?;
    let host = url.host_str().ok_or(BadUrl::Form)?.trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    let link_local = match address {
        Some(std::net::IpAddr::V4(v4)) => v4.is_link_local() || v4.is_unspecified(),
        Some(std::net::IpAddr::V6(v6)) => v6.is_unicast_link_local() || v6.is_unspecified() || v6.to_ipv4_mapped().is_some(),
        None => false,
    };
    match url.scheme() {
        _ if link_local => Err(BadUrl::LinkLocal),
        _ if !url.username().is_empty() || url.password().is_some() => Err(BadUrl::Userinfo),
        "https" => Ok(url),
        "http" if here => Ok(url),
        "http" => Err(BadUrl::Plain),
        _ => Err(BadUrl::Form),
    }
}

pub(super) struct Webhook {
    plan: WebhookPlan,
    client: reqwest::Result<Client>,
}

impl Notifier for Webhook {
    fn deliver<'a>(&'a self, notice: &'a Notice) -> Pin<Box<dyn Future<Output = Result<(), NotDelivered>> + Send + 'a>> {
        Box::pin(self.post(notice))
    }
}

impl Webhook {
    async fn post(&self, notice: &Notice) -> Result<(), NotDelivered> {
        let client = self.client.as_ref().map_err(|error| NotDelivered::ever(with_causes(error)))?;
        let url = check(here(&self.plan.url)?).map_err(|bad| NotDelivered::ever(format!("its address cannot be used: {bad}")))?;
        let body = body(notice);
        let mut request = client.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.plan.secret {
            let at = Timestamp::now().micros() / 1_000_000;
            request = request.header(TIMESTAMP, at).header(SIGNATURE, sign(here(secret)?, at, &body));
        }
        let answer = request.body(body).send().await.map_err(|error| NotDelivered::now(with_causes(&error.without_url())))?;
        let status = answer.status();
        match status.as_u16() {
            200..300 => Ok(()),
            code @ 300..400 => Err(NotDelivered::ever(format!("it answered {code}: redirects are not followed"))),
            code @ (408 | 425 | 429 | 500..) => Err(NotDelivered::now(format!("it answered {code}"))),
            code => Err(NotDelivered::ever(format!("it answered {code}"))),
        }
    }
}

fn here(found: &Found) -> Result<&Hidden, NotDelivered> {
    match found {
        Found::Here(hidden) => Ok(hidden),
        Found::Missing(why) => Err(NotDelivered::ever(why.clone())),
    }
}

/// What is posted. The switches are Slack's; others leave them aside.
fn body(notice: &Notice) -> Vec<u8> {
    let body = serde_json::json!({
        "text": chat(&notice.text), "mrkdwn": false, "link_names": false, "parse": "none",
        "unfurl_links": false, "unfurl_media": false,
    });
    body.to_string().into_bytes()
}

/// `v1=` and HMAC-SHA256 over `v1:TIMESTAMP:BODY`, in hexadecimal digits.
fn sign(secret: &Hidden, at: i64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()) else {
        // HMAC takes keys of every length.
        return String::new();
    };
    mac.update(format!("v1:{at}:").as_bytes());
    mac.update(body);
    format!("v1={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(url: &str) -> Result<WebhookPlan, BadUrl> {
        WebhookPlan::new(Found::Here(Hidden::new(url)), None)
    }

    #[test]
    fn only_https_leaves_this_machine() {
        for good in ["https://hooks.example.org/T0/B0/x", "http://127.0.0.1:8065/hooks/x", "http://[::1]:1/", "http://localhost/x"] {
            assert!(plan(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://hooks.example.org/x", BadUrl::Plain),
            ("https://169.254.169.254/latest", BadUrl::LinkLocal),
            ("http://169.254.169.254/latest", BadUrl::LinkLocal),
            ("https://[fe80::1]/x", BadUrl::LinkLocal),
            ("https://[::ffff:169.254.169.254]/x", BadUrl::LinkLocal),
            ("https://a:b@hooks.example.org/x", BadUrl::Userinfo),
            ("file:///etc/passwd", BadUrl::Form),
            ("hooks.example.org/x", BadUrl::Form),
        ] {
            assert_eq!(plan(bad).unwrap_err(), why, "{bad}");
        }
    }

    /// By `printf 'v1:1700000000:{}' | openssl dgst -sha256 -hmac secret`.
    #[test]
    fn a_signature_is_what_openssl_makes() {
        let signature = sign(&Hidden::new("secret"), 1_700_000_000, b"{}");
        assert_eq!(signature, "v1=14ea7fd0a36d8557c745d82072f653f4e553e593c57ac365fab425da48e1c495");
    }

    #[test]
    fn nothing_of_a_plan_is_printed() {
        let url = Found::Here(Hidden::new("https://hooks.example.org/T0/B0/canary"));
        let plan = WebhookPlan::new(url, Some(Found::Here(Hidden::new("canary")))).unwrap();
        assert!(!format!("{plan:?}").contains("canary"));
    }
}
