//! What processes do beside living and dying: netlink, cgroups, floods, stacks. In: words. Out: records.

use super::names;
use super::records::{Cast, bytes, header, padded, with_tail};
use super::words::Words;
use slowpod_ebpf::abi::{Kind, Task, cgroup, cni, flood, netlink, sample, split::Cause, stack};
use slowpod_ebpf::rules::env;
use zerocopy::FromZeros;

impl Cast {
    pub(super) fn moved(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?;
        life.cgroup_id = words.number()?;
        Ok(bytes(cgroup::CgroupMove {
            header: header(Kind::CgroupMove, now_ns),
            task: life.task,
            cgroup_id: life.cgroup_id,
            hierarchy: 0,
            whole_process: 1,
        }))
    }

    pub(super) fn netlink(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?.clone();
        let mut record = netlink::NetlinkSend::new_zeroed();
        record.header = header(Kind::NetlinkSend, now_ns);
        (record.task, record.cgroup_id, record.comm) = (life.task, life.cgroup_id, life.comm);
        record.protocol = names::family(&words.must("a family")?)?;
        let (message_type, command) = names::message(&words.must("a message")?)?;
        let messages = match words.first().and_then(|word| word.strip_prefix('x')).map(str::parse) {
            Some(Ok(messages)) => {
                words.next();
                messages
            }
            _ => 1,
        };
        record.types[0] = netlink::TypeCount { message_type, command, messages };
        record.sends = words.count("sends", messages)?;
        record.bytes = words.count("bytes", 64 * u64::from(messages))?;
        record.inside_ns = words.span("inside")?.unwrap_or_default();
        record.failed_sends = words.count("failed", 0)?;
        record.errno = words.count("errno", 0)?;
        if words.flag("cut") {
            record.flags |= netlink::FLAG_WALK_CUT;
        }
        if words.flag("unread") {
            record.flags |= netlink::FLAG_UNREAD;
            record.types = FromZeros::new_zeroed();
        }
        Ok(bytes(record))
    }

    pub(super) fn refuse(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?.clone();
        let protocol = names::family(&words.must("a family")?)?;
        let (message_type, _) = names::message(&words.must("a message")?)?;
        let errno = names::errno(&words.must("an errno")?)?;
        let header = header(Kind::NetlinkError, now_ns);
        let (task, comm) = (life.task, life.comm);
        Ok(bytes(netlink::NetlinkError { header, task, protocol, message_type, errno, comm }))
    }

    pub(super) fn cni(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?.clone();
        let command = words.bytes("a command")?;
        let mut value = |name: &str| words.option(name).map_or_else(Vec::new, |word| word.0);
        let args = value("args");
        let fixed = cni::Cni {
            header: header(Kind::Cni, now_ns),
            task: life.task,
            cgroup_id: life.cgroup_id,
            found: env::Key::Command.bit(),
            cut: 0,
            args_len: args.len() as u32,
            reserved: 0,
            comm: life.comm,
            command: field(&command)?,
            ifname: field(&value("if"))?,
            traceparent: field(&value("trace"))?,
            container_id: field(&value("sandbox"))?,
            netns: field(&value("netns"))?,
        };
        let cut = if words.flag("cut") { env::Key::Args.bit() } else { 0 };
        Ok(with_tail(bytes(cni::Cni { cut, ..fixed }), &[&args]))
    }

    pub(super) fn flood(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?.clone();
        let mut binary = [0; flood::BINARY_BYTES];
        let name = words.bytes("a binary")?;
        binary[..name.len()].copy_from_slice(&name);
        let mut instant = |name: &str| -> Result<u64, String> {
            Ok(words.span(name)?.map_or(now_ns, |ns| super::BEGIN_NS + ns))
        };
        let (first_ns, last_ns) = (instant("from")?, instant("until")?);
        let spawns = words.count("spawns", 0)?;
        let wall_ns = words.span("wall")?.unwrap_or_default();
        let on_cpu_ns = words.span("cpu")?.unwrap_or(wall_ns);
        let count = flood::FloodCount {
            spawns,
            lost_ends: words.count("lost_ends", 0)?,
            nameless: words.count("nameless", 0)?,
            failed: words.count("failed", 0)?,
            wall_ns,
            on_cpu_ns,
            runnable_ns: words.span("runnable")?.unwrap_or_default(),
            blocked_ns: words.span("blocked")?.unwrap_or_default(),
            first_ns,
            last_ns,
        };
        let key = flood::FloodKey { spawner: Task { tid: 0, ..life.task }, binary };
        let (cgroup_id, comm) = (life.cgroup_id, life.comm);
        Ok(bytes(flood::Flood { header: header(Kind::Flood, now_ns), key, count, cgroup_id, comm }))
    }

    pub(super) fn stack(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let id = words.number()?;
        let task = self.life(words)?.task;
        let user = u32::from(!words.flag("kernel"));
        let mut frames: Vec<u8> = Vec::new();
        while let Some(word) = words.next() {
            let frame = word.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            frames.extend(frame.ok_or_else(|| format!("{word:?} is no address"))?.to_le_bytes());
        }
        let depth = (frames.len() / 8) as u32;
        let fixed = stack::Stack { header: header(Kind::Stack, now_ns), task, id, depth, user };
        Ok(with_tail(bytes(fixed), &[&frames]))
    }

    pub(super) fn sample(&mut self, words: &mut Words, now_ns: u64) -> Result<Vec<u8>, String> {
        let life = self.life(words)?.clone();
        let kind = words.must("on_cpu, off_cpu or run_queue")?;
        let kind = sample::SampleKind::ALL.into_iter().find(|known| known.name() == kind);
        let kind = kind.ok_or("a sample is on_cpu, off_cpu or run_queue")?;
        let value_ns = words.time()?;
        let flags = [("goes_on", sample::FLAG_GOES_ON), ("preempted", sample::FLAG_PREEMPTED)];
        let flags = flags.into_iter().filter(|(name, _)| words.flag(name)).fold(0, |all, (_, bit)| all | bit);
        let goes_on = flags & sample::FLAG_GOES_ON != 0;
        let cause = match words.text("cause")? {
            None => 0,
            Some(name) => {
                let cause = Cause::ALL.into_iter().find(|cause| cause.name() == name);
                cause.ok_or_else(|| format!("no cause is called {name:?}"))? as u32
            }
        };
        let count = words.count("count", u64::from(!goes_on))?;
        let period_ns = if kind == sample::SampleKind::OnCpu { value_ns / count.max(1) } else { 0 };
        let comm = words.option("thread").map_or(life.comm, |word| padded(&word.0));
        Ok(bytes(sample::Sample {
            header: header(Kind::Sample, now_ns),
            task: Task { tid: words.count("tid", life.task.tgid)?, ..life.task },
            cgroup_id: life.cgroup_id,
            user_stack: words.count("stack", 0)?,
            kernel_stack: words.count("kstack", 0)?,
            count,
            value_ns,
            period_ns,
            begun_ns: now_ns - value_ns.min(now_ns),
            kind: kind as u32,
            cause,
            flags,
            reserved: 0,
            comm,
        }))
    }
}

/// A cgroup directory is made or removed.
pub(super) fn made_or_gone(words: &mut Words, now_ns: u64, made: bool) -> Result<Vec<u8>, String> {
    let id = words.number()?;
    let path = if made { words.bytes("a path")? } else { Vec::new() };
    let fixed = cgroup::Cgroup {
        header: header(Kind::Cgroup, now_ns),
        id,
        hierarchy: 0,
        made: u32::from(made),
        path_len: path.len() as u32,
        path_cut: 0,
    };
    Ok(with_tail(bytes(fixed), &[&path]))
}

/// A value as a NUL-padded field.
fn field<const BYTES: usize>(value: &[u8]) -> Result<[u8; BYTES], String> {
    let mut field = [0; BYTES];
    field.get_mut(..value.len()).ok_or("a value is too long for its field")?.copy_from_slice(value);
    Ok(field)
}
