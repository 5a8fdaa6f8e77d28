//! `netlink`: time inside netlink sends, in which the kernel carries requests out. The sender's stack, for a
//! short-lived child its spawner's and its argv class, then the message type.

use super::collect::{About, Collector};
use super::{Kind, Value};
use crate::decode::netlink_names::message_name;

/// The kind.
pub static KIND: Kind = Kind {
    name: "netlink",
    about: "Time inside netlink sends, by the stack that sent and the message type. Sends of short-lived children stand \
            under who spawned them, by argv class.",
    values: &[Value::count("messages"), Value::count("sends"), Value::time("inside")],
    default_value: 2,
    period: None,
    sampled: false,
    collect,
};

fn collect(profile: &mut Collector<'_>) {
    let state = profile.state();
    let family = |id: u16| state.genl.get(&id).map(String::as_str);
    for (key, sums) in state.sent.rows() {
        let Some(owner) = profile.process(key.process) else { continue };
        let message = key.message;
        let name = message_name(message.protocol, message.message_type, message.command, &family);
        let notes: Vec<&str> = key.child.as_deref().into_iter().chain([name.as_ref()]).collect();
        if key.user_stack == 0 {
            profile.without_stack();
        }
        let about = About { owner, user_stack: key.user_stack, notes: &notes, ..About::default() };
        profile.add(&about, [sums.messages, sums.sends, sums.inside_ns]);
    }
}
