//! A host that firewalld rules: the real one, on a message bus of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cluster::await_condition;
use crate::{Process, skip};

/// A message bus that lets everybody ask for everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"#;

/// firewalld and its message bus, as they are in Debian, in the namespaces of whoever starts them: `/run` has to be the test's or
/// the node's own.
#[derive(Debug)]
pub struct Firewalld {
    daemon: Option<Process>,
    _bus: Process,
}

impl Firewalld {
    /// Starts both, and waits until firewalld rules. Whoever may not run them skips.
    ///
    /// # Panics
    /// When it does not.
    pub fn start() -> Self {
        for program in ["/usr/bin/dbus-daemon", "/usr/sbin/firewalld"] {
            if !Path::new(program).exists() {
                skip(&format!("{program} is not installed"));
            }
        }
        fs::create_dir_all("/run/dbus").expect("/run is the test's own");
        fs::write("/run/bus.conf", BUS).expect("/run is the test's own");
        let bus = Process::start(Command::new("/usr/bin/dbus-daemon").args([
            "--nofork",
            "--nopidfile",
            "--config-file=/run/bus.conf",
        ]));
        let socket = Path::new("/run/dbus/system_bus_socket");
        await_condition("there is a message bus", || socket.exists());
        let mut started = Self {
            daemon: None,
            _bus: bus,
        };
        started.restart();
        started
    }

    /// Starts firewalld anew, and waits until it rules. To be called where it was started.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self) {
        self.stop();
        // The configuration as Debian has it, but in a place that is the test's own.
        fs::create_dir_all("/run/firewalld.conf.d").expect("/run is the test's own");
        let daemon = Process::start(Command::new("/usr/sbin/firewalld").args([
            "--nofork",
            "--nopid",
            "--system-config",
            "/run/firewalld.conf.d",
            "--log-target",
            "console",
        ]));
        await_condition("firewalld rules", || ask("", "getDefaultZone", &[]).is_ok());
        self.daemon = Some(daemon);
    }

    /// Ends firewalld; the message bus stays.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stop().expect("firewalld ends when it is told to");
        }
    }

    /// Keeps it from answering, or lets it go on.
    pub fn freeze(&mut self, frozen: bool) {
        if let Some(daemon) = &mut self.daemon {
            daemon.freeze(frozen);
        }
    }
}

/// What belongs to a zone of the firewalld where the calling thread is: interfaces, sources, then open ports, each in order.
///
/// # Panics
/// When firewalld does not answer.
pub fn members(zone: &str) -> Vec<String> {
    let mut members = Vec::new();
    for list in ["getInterfaces", "getSources", "getPorts"] {
        let found = ask("zone.", list, &[zone]);
        let mut found = found.expect("firewalld lists what is in its zones");
        match list {
            "getPorts" => found = found.chunks(2).map(|port| port.join("/")).collect(),
            _ => found.sort(),
        }
        members.append(&mut found);
    }
    members
}

/// Has a method of firewalld's zones called where the calling thread is, such as `addSource` with the zone and the source.
///
/// # Panics
/// When it refuses.
pub fn tell(method: &str, arguments: &[&str]) {
    let outcome = ask("zone.", method, arguments);
    outcome.unwrap_or_else(|error| panic!("{method} {arguments:?}: {error}"));
}

/// Has firewalld read its configuration again, and forget what it was told.
///
/// # Panics
/// When it does not.
pub fn reload() {
    ask("", "reload", &[]).expect("firewalld can be reloaded");
}

/// Asks without Python, which takes as long as all the rest; the texts of the answer.
fn ask(interface: &str, method: &str, arguments: &[&str]) -> Result<Vec<String>, String> {
    let method = format!("org.fedoraproject.FirewallD1.{interface}{method}");
    let mut command = Command::new("/usr/bin/dbus-send");
    command.args([
        "--system",
        "--print-reply",
        "--dest=org.fedoraproject.FirewallD1",
        "/org/fedoraproject/FirewallD1",
        &method,
    ]);
    command.args(
        arguments
            .iter()
            .map(|argument| match argument.parse::<i32>() {
                Ok(0) => "int32:0".to_owned(),
                _ => format!("string:{argument}"),
            }),
    );
    let output = command.output().expect("dbus-send comes with dbus-daemon");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().map(str::trim);
    let texts = lines.filter_map(|line| line.strip_prefix("string \"")?.strip_suffix('"'));
    Ok(texts.map(str::to_owned).collect())
}
