//! A client of the kubelet's container runtime interface (CRI): the few calls that start and end pods.
//!
//! Messages are those of `k8s.io/cri-api`, `runtime/v1/api.proto`, with the fields that are set or read here. The crate
//! `k8s-cri` has all of them, but compiles them with `protoc`, which everybody who builds the tests would need.

use prost::Message;
use std::collections::HashMap;
use std::path::Path;
use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// `NamespaceMode`: a namespace of one's own, or the node's.
const POD: i32 = 0;
const CONTAINER: i32 = 1;
const NODE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct SandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(uint32, tag = "4")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
    #[prost(int32, tag = "2")]
    pid: i32,
    #[prost(int32, tag = "3")]
    ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SecurityContext {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxSandbox {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    security: Option<SecurityContext>,
}

/// What a sandbox is to be.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<SandboxMetadata>,
    #[prost(string, tag = "2")]
    hostname: String,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxSandbox>,
}

impl SandboxConfig {
    /// A pod in namespace `default`, as a kubelet would ask for it the `attempt`th time (from 0).
    pub(super) fn new(name: &str, uid: &str, cgroup_parent: &str, logs: &Path, attempt: u32) -> Self {
        let namespaces = Namespaces { network: POD, pid: CONTAINER, ipc: POD };
        let metadata =
            SandboxMetadata { name: name.into(), uid: uid.into(), namespace: "default".into(), attempt };
        SandboxConfig {
            metadata: Some(metadata),
            hostname: name.into(),
            log_directory: logs.display().to_string(),
            labels: HashMap::from([("io.kubernetes.pod.uid".into(), uid.into())]),
            linux: Some(LinuxSandbox {
                cgroup_parent: cgroup_parent.into(),
                security: Some(SecurityContext { namespaces: Some(namespaces) }),
            }),
        }
    }

    /// The same in the node's own network namespace, and so under the node's own name.
    pub(super) fn on_host_network(mut self) -> Self {
        self.hostname.clear();
        let security = self.linux.as_mut().and_then(|linux| linux.security.as_mut());
        security.and_then(|security| security.namespaces.as_mut()).expect("set by `new`").network = NODE;
        self
    }
}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// A request or an answer that is one id.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct Sandboxes {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(string, tag = "1")]
    image: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(string, tag = "11")]
    log_path: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(int64, tag = "5")]
    started_at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

/// A connection to a runtime.
pub(super) struct Cri {
    runtime: Runtime,
    channel: Channel,
}

impl Cri {
    /// Connects to the socket.
    pub(super) fn connect(socket: &Path) -> Result<Cri, tonic::Status> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display()));
        let endpoint = endpoint.map_err(|error| tonic::Status::internal(error.to_string()))?;
        let channel = runtime.block_on(endpoint.connect());
        let channel = channel.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        Ok(Cri { runtime, channel })
    }

    /// Starts a sandbox; its id.
    pub(super) fn run_sandbox(&self, config: &SandboxConfig) -> Result<String, tonic::Status> {
        let request = RunRequest { config: Some(config.clone()) };
        Ok(self.call::<_, Id>("RunPodSandbox", request)?.id)
    }

    /// Ends what runs in a sandbox and takes its network away.
    pub(super) fn stop_sandbox(&self, id: &str) -> Result<(), tonic::Status> {
        self.call::<_, Nothing>("StopPodSandbox", Id { id: id.into() }).map(drop)
    }

    /// Forgets a sandbox.
    pub(super) fn remove_sandbox(&self, id: &str) -> Result<(), tonic::Status> {
        self.call::<_, Nothing>("RemovePodSandbox", Id { id: id.into() }).map(drop)
    }

    /// Ids of all sandboxes.
    pub(super) fn sandboxes(&self) -> Result<Vec<String>, tonic::Status> {
        let all = self.call::<_, Sandboxes>("ListPodSandbox", Nothing {})?;
        Ok(all.items.into_iter().map(|sandbox| sandbox.id).collect())
    }

    /// Makes a container and starts it; its id.
    pub(super) fn run_container(
        &self,
        sandbox: &str,
        config: &SandboxConfig,
        name: &str,
        command: &[&str],
    ) -> Result<String, tonic::Status> {
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into() }),
            image: Some(Image { image: super::image::NAME.into() }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            log_path: format!("{name}.log"),
        };
        let request = CreateRequest {
            sandbox: sandbox.into(),
            config: Some(container),
            sandbox_config: Some(config.clone()),
        };
        let id = self.call::<_, Id>("CreateContainer", request)?.id;
        self.call::<_, Nothing>("StartContainer", Id { id: id.clone() })?;
        Ok(id)
    }

    /// Whether a container has ended.
    pub(super) fn has_exited(&self, container: &str) -> Result<bool, tonic::Status> {
        const EXITED: i32 = 2;
        let answer = self.call::<_, StatusAnswer>("ContainerStatus", Id { id: container.into() })?;
        Ok(answer.status.is_some_and(|status| status.state == EXITED))
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, tonic::Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"));
        let path = path.map_err(|error| tonic::Status::internal(error.to_string()))?;
        self.runtime.block_on(async {
            let mut client = tonic::client::Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
            let answer = client.unary(tonic::Request::new(request), path, ProstCodec::default()).await?;
            Ok(answer.into_inner())
        })
    }
}
