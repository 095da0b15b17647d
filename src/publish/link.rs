//! One connection to a broker: the only place that knows the MQTT library's two protocol versions.
//!
//! The library's own memory of what is unacknowledged can wedge after a lost session (rumqtt issue
//! 1056), and publishing from the task that polls can freeze it (1025). So a link is made fresh for
//! every connection and thrown away with it, polls in a task of its own, and publishes only by
//! `try_publish`.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Outgoing, QoS, Transport, v5};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::payload::OFFLINE;
use super::settings::{ProtocolVersion, Secret};
use crate::tls::{self, ClientConfig};

/// Requests that the library may hold. More than the session ever has outstanding.
const REQUESTS_MAX: usize = 64;
/// Packet ids in use at most. Far more than the session has in flight, so that a broker that
/// acknowledges out of order does not stall the link.
const PACKET_IDS: u16 = 100;
/// Largest packet either way. A discovery message of 20 sources with 50 classes is 0.4 MB.
const PACKET_BYTES_MAX: u32 = 4 * 1024 * 1024;
const EVENTS_MAX: usize = 64;
/// The library refuses less for one of the protocol versions.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(u16::MAX as u64);

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub version: ProtocolVersion,
    pub client_id: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub tls: Option<Arc<ClientConfig>>,
    pub keep_alive: Duration,
    /// The topic of the last will, which says [`OFFLINE`].
    pub will_topic: Arc<str>,
}

/// What happens on a link.
#[derive(Debug)]
pub enum LinkEvent {
    Connected,
    /// The next publish in the order they were asked for went out, with this packet id; 0: QoS 0.
    Sent {
        packet_id: u16,
    },
    Acknowledged {
        packet_id: u16,
        refusal: Option<String>,
    },
    /// The broker will not let us hear this.
    NotSubscribed,
    Message {
        topic: String,
        payload: Vec<u8>,
        retained: bool,
    },
    DisconnectSent,
    /// Nothing comes after this. The reason is for a person.
    Closed {
        reason: String,
    },
}

enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// A link; dropping it cuts the connection.
pub struct Link {
    client: Client,
    events: mpsc::Receiver<LinkEvent>,
    poller: JoinHandle<()>,
}

/// The library took no request: the link is closing, or the topic is not a topic.
#[derive(Debug)]
pub struct NotTaken;

impl Link {
    /// Begins to connect. Must be called within a tokio runtime.
    pub fn open(endpoint: &Endpoint) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        match endpoint.version {
            ProtocolVersion::V311 => {
                let options = options_v311(endpoint);
                let (client, mut eventloop) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
                let mut network = rumqttc::NetworkOptions::new();
                network.set_tcp_nodelay(true);
                eventloop.set_network_options(network);
                let poller = tokio::spawn(poll_v311(eventloop, sender));
                Self { client: Client::V311(client), events, poller }
            }
            ProtocolVersion::V5 => {
                let (client, eventloop) = v5::AsyncClient::new(options_v5(endpoint), REQUESTS_MAX);
                let poller = tokio::spawn(poll_v5(eventloop, sender));
                Self { client: Client::V5(client), events, poller }
            }
        }
    }

    /// What happened next. Safe to cancel.
    pub async fn next(&mut self) -> LinkEvent {
        let ended = || LinkEvent::Closed { reason: "the connection task ended".to_owned() };
        self.events.recv().await.unwrap_or_else(ended)
    }

    /// Hands a message to the library, QoS 1 if `reliable`, else 0.
    pub fn publish(
        &self,
        topic: &str,
        payload: Vec<u8>,
        retain: bool,
        reliable: bool,
    ) -> Result<(), NotTaken> {
        match &self.client {
            Client::V311(client) => {
                let qos = if reliable { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                client.try_publish(topic, qos, retain, payload).map_err(|_| NotTaken)
            }
            Client::V5(client) => {
                let qos = qos_v5(reliable);
                client.try_publish(topic, qos, retain, payload).map_err(|_| NotTaken)
            }
        }
    }

    /// Asks for messages on `filter` with QoS 1.
    pub fn subscribe(&self, filter: &str) -> Result<(), NotTaken> {
        match &self.client {
            Client::V311(client) => {
                client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| NotTaken)
            }
            Client::V5(client) => client.try_subscribe(filter, qos_v5(true)).map_err(|_| NotTaken),
        }
    }

    /// Asks for no more messages on `filter`.
    pub fn unsubscribe(&self, filter: &str) -> Result<(), NotTaken> {
        match &self.client {
            Client::V311(client) => client.try_unsubscribe(filter).map_err(|_| NotTaken),
            Client::V5(client) => client.try_unsubscribe(filter).map_err(|_| NotTaken),
        }
    }

    /// Says goodbye, so that the broker does not publish the last will.
    pub fn disconnect(&self) -> Result<(), NotTaken> {
        match &self.client {
            Client::V311(client) => client.try_disconnect().map_err(|_| NotTaken),
            Client::V5(client) => client.try_disconnect().map_err(|_| NotTaken),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

fn qos_v5(reliable: bool) -> v5::mqttbytes::QoS {
    if reliable { v5::mqttbytes::QoS::AtLeastOnce } else { v5::mqttbytes::QoS::AtMostOnce }
}

fn transport(endpoint: &Endpoint) -> Transport {
    match &endpoint.tls {
        Some(config) => {
            Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(Arc::clone(config)))
        }
        None => Transport::tcp(),
    }
}

/// The host as the library wants it: it joins host and port by a colon.
fn library_host(endpoint: &Endpoint) -> String {
    match endpoint.host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => endpoint.host.clone(),
    }
}

fn options_v311(endpoint: &Endpoint) -> rumqttc::MqttOptions {
    let mut options = rumqttc::MqttOptions::new(
        endpoint.client_id.clone(),
        library_host(endpoint),
        endpoint.port,
    );
    options.set_transport(transport(endpoint));
    options.set_keep_alive(endpoint.keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX));
    options.set_clean_session(true);
    options.set_inflight(PACKET_IDS);
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    let will = &*endpoint.will_topic;
    options.set_last_will(rumqttc::LastWill::new(will, OFFLINE, QoS::AtLeastOnce, true));
    if let Some(user) = &endpoint.user {
        let password = endpoint.password.as_ref().map_or("", Secret::reveal);
        options.set_credentials(user, password);
    }
    options
}

fn options_v5(endpoint: &Endpoint) -> v5::MqttOptions {
    let mut options =
        v5::MqttOptions::new(endpoint.client_id.clone(), library_host(endpoint), endpoint.port);
    options.set_transport(transport(endpoint));
    options.set_keep_alive(endpoint.keep_alive.clamp(KEEP_ALIVE_MIN, KEEP_ALIVE_MAX));
    options.set_clean_start(true);
    options.set_outgoing_inflight_upper_limit(PACKET_IDS);
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let will = &*endpoint.will_topic;
    options.set_last_will(v5::mqttbytes::v5::LastWill::new(
        will,
        OFFLINE,
        qos_v5(true),
        true,
        None,
    ));
    if let Some(user) = &endpoint.user {
        let password = endpoint.password.as_ref().map_or("", Secret::reveal);
        options.set_credentials(user, password);
    }
    options
}

async fn poll_v311(mut eventloop: rumqttc::EventLoop, events: mpsc::Sender<LinkEvent>) {
    use rumqttc::{Event, Packet};
    loop {
        let event = match eventloop.poll().await {
            Ok(Event::Outgoing(outgoing)) => sent(&outgoing),
            Ok(Event::Incoming(packet)) => match packet {
                Packet::ConnAck(_) => Some(LinkEvent::Connected),
                Packet::PubAck(ack) => {
                    Some(LinkEvent::Acknowledged { packet_id: ack.pkid, refusal: None })
                }
                Packet::SubAck(ack) => ack
                    .return_codes
                    .contains(&rumqttc::SubscribeReasonCode::Failure)
                    .then_some(LinkEvent::NotSubscribed),
                Packet::Publish(publish) => Some(LinkEvent::Message {
                    topic: publish.topic,
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                }),
                _ => None,
            },
            Err(error) => Some(LinkEvent::Closed { reason: explain_v311(&error) }),
        };
        if !pass_on(event, &events).await {
            return;
        }
    }
}

async fn poll_v5(mut eventloop: v5::EventLoop, events: mpsc::Sender<LinkEvent>) {
    use v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
    loop {
        let event = match eventloop.poll().await {
            Ok(v5::Event::Outgoing(outgoing)) => sent(&outgoing),
            Ok(v5::Event::Incoming(packet)) => match packet {
                Packet::ConnAck(_) => Some(LinkEvent::Connected),
                Packet::PubAck(ack) => {
                    let taken = [PubAckReason::Success, PubAckReason::NoMatchingSubscribers];
                    let refused = !taken.contains(&ack.reason);
                    let refusal = refused.then(|| format!("{:?}", ack.reason));
                    Some(LinkEvent::Acknowledged { packet_id: ack.pkid, refusal })
                }
                Packet::SubAck(ack) => ack
                    .return_codes
                    .iter()
                    .any(|code| !matches!(code, SubscribeReasonCode::Success(_)))
                    .then_some(LinkEvent::NotSubscribed),
                Packet::Publish(publish) => Some(LinkEvent::Message {
                    topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                    payload: publish.payload.to_vec(),
                    retained: publish.retain,
                }),
                _ => None,
            },
            Err(error) => Some(LinkEvent::Closed { reason: explain_v5(&error) }),
        };
        if !pass_on(event, &events).await {
            return;
        }
    }
}

/// False when polling should end.
async fn pass_on(event: Option<LinkEvent>, events: &mpsc::Sender<LinkEvent>) -> bool {
    let Some(event) = event else { return true };
    let last = matches!(event, LinkEvent::Closed { .. });
    events.send(event).await.is_ok() && !last
}

fn sent(outgoing: &Outgoing) -> Option<LinkEvent> {
    match outgoing {
        Outgoing::Publish(packet_id) => Some(LinkEvent::Sent { packet_id: *packet_id }),
        Outgoing::Disconnect => Some(LinkEvent::DisconnectSent),
        _ => None,
    }
}

const BAD_LOGIN: &str = "the broker refused the user name or password";
const NOT_ALLOWED: &str =
    "the broker does not let this client in (wrong user name or password, or no permission)";
const TIMEOUT: &str = "no answer within 5 seconds";

fn explain_v311(error: &rumqttc::ConnectionError) -> String {
    use rumqttc::{ConnectReturnCode, ConnectionError};
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword) => {
            BAD_LOGIN.to_owned()
        }
        ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized) => {
            NOT_ALLOWED.to_owned()
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refused: {code:?}"),
        ConnectionError::NetworkTimeout => TIMEOUT.to_owned(),
        other => explain(other),
    }
}

fn explain_v5(error: &v5::ConnectionError) -> String {
    use v5::ConnectionError;
    use v5::mqttbytes::v5::ConnectReturnCode;
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword) => {
            BAD_LOGIN.to_owned()
        }
        ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized) => {
            NOT_ALLOWED.to_owned()
        }
        ConnectionError::ConnectionRefused(code) => format!("the broker refused: {code:?}"),
        ConnectionError::Timeout(_) => TIMEOUT.to_owned(),
        other => explain(other),
    }
}

/// Looks for the cause behind the library's wrappers: a TLS or a network error says more.
fn explain(error: &(dyn Error + 'static)) -> String {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<tls::Error>() {
            return explain_tls(tls);
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return match io.get_ref().and_then(|inner| inner.downcast_ref::<tls::Error>()) {
                Some(tls) => explain_tls(tls),
                None => explain_io(io),
            };
        }
        next = error.source();
    }
    error.to_string()
}

fn explain_tls(error: &tls::Error) -> String {
    match error {
        tls::Error::InvalidCertificate(cause) => format!(
            "the broker's certificate is not trusted ({cause}); mqtt.tls.ca_file must be the \
             authority that signed it, and mqtt.host a name in it"
        ),
        tls::Error::InvalidMessage(_) => {
            format!("no TLS is spoken there ({error}); is mqtt.port the broker's TLS port?")
        }
        tls::Error::AlertReceived(_) => {
            format!(
                "the broker ended the TLS handshake ({error}); does it want a client certificate?"
            )
        }
        other => format!("TLS: {other}"),
    }
}

fn explain_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: no broker is listening there".to_owned()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            format!("the connection was cut ({error})")
        }
        _ => error.to_string(),
    }
}
