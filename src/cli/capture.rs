//! `sortie capture`: which traffic the kernel redirects into the proxy.
//!
//! Owns: its arguments, which are also istio-iptables', and what is said of the outcome.
//! Never: makes a rule.
//! Called by: cli.

use std::io::Write;
use std::process::ExitCode;

use ipnet::IpNet;

use super::command::USAGE;
use super::table::print;
use crate::capture::{self, Family, Ruleset};
use crate::model::{CaptureSpec, Chosen, Interception, list};

/// Redirect traffic into the proxy: print, apply, check or remove the kernel's rules
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the rules
    Print(PrintArgs),
    /// Apply the rules; twice is the same as once, and a failure leaves nothing behind
    Apply(ApplyArgs),
    /// Remove the rules, whatever they were applied with
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct PrintArgs {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {}

// Not `Vec`, which clap would take for a flag that is repeated.
type Listed<T> = Vec<T>;

/// Ranges, ports and users: what is captured
#[derive(Debug, clap::Args)]
struct What {
    /// Port of the proxy that outbound connections go to
    #[arg(long, short = 'p', alias = "envoy-port", value_name = "PORT", env = "SORTIE_OUTBOUND_PORT", default_value_t = 15001, value_parser = port)]
    outbound_port: u16,
    /// Port of the proxy that inbound connections go to
    #[arg(long, short = 'z', alias = "inbound-capture-port", value_name = "PORT", env = "SORTIE_INBOUND_PORT", default_value_t = 15006, value_parser = port)]
    inbound_port: u16,
    /// Users whose own traffic is not captured: the proxy's
    #[arg(long, short = 'u', alias = "proxy-uid", value_name = "LIST", env = "SORTIE_UID", default_value = "1337", value_parser = list::<u32>)]
    uid: Listed<u32>,
    /// Groups whose own traffic is not captured: the proxy's
    #[arg(long, short = 'g', alias = "proxy-gid", value_name = "LIST", env = "SORTIE_GID", default_value = "1337", value_parser = list::<u32>)]
    gid: Listed<u32>,
    /// How inbound is captured: REDIRECT, TPROXY (keeps the client's address) or NONE
    #[arg(long, short = 'm', alias = "istio-inbound-interception-mode", value_name = "MODE", env = "SORTIE_INTERCEPTION", default_value_t = Interception::Redirect)]
    interception: Interception,
    /// Destinations that are captured: * or a list; empty is none
    #[arg(
        long,
        short = 'i',
        alias = "istio-service-cidr",
        value_name = "CIDRS",
        env = "SORTIE_OUTBOUND_RANGES",
        default_value = "*"
    )]
    outbound_ranges: Chosen<IpNet>,
    /// Destinations that are not captured
    #[arg(long, short = 'x', alias = "istio-service-exclude-cidr", value_name = "CIDRS", env = "SORTIE_EXCLUDE_OUTBOUND_RANGES", default_value = "", hide_default_value = true, value_parser = list::<IpNet>)]
    exclude_outbound_ranges: Listed<IpNet>,
    /// Ports that are captured whatever their address
    #[arg(long, short = 'q', alias = "istio-outbound-ports", value_name = "PORTS", env = "SORTIE_OUTBOUND_PORTS", default_value = "", hide_default_value = true, value_parser = list::<u16>)]
    outbound_ports: Listed<u16>,
    /// Ports of others that are not captured
    #[arg(long, short = 'o', alias = "istio-local-outbound-ports-exclude", value_name = "PORTS", env = "SORTIE_EXCLUDE_OUTBOUND_PORTS", default_value = "", hide_default_value = true, value_parser = list::<u16>)]
    exclude_outbound_ports: Listed<u16>,
    /// Ports of the application that are captured: * or a list; empty is none
    #[arg(
        long,
        short = 'b',
        alias = "istio-inbound-ports",
        value_name = "PORTS",
        env = "SORTIE_INBOUND_PORTS",
        default_value = "*"
    )]
    inbound_ports: Chosen<u16>,
    /// Ports of the application that are not captured, beside 15020, 15021 and 15090
    #[arg(long, short = 'd', alias = "istio-local-exclude-ports", value_name = "PORTS", env = "SORTIE_EXCLUDE_INBOUND_PORTS", default_value = "", hide_default_value = true, value_parser = list::<u16>)]
    exclude_inbound_ports: Listed<u16>,
    /// Interfaces whose traffic is not looked at
    #[arg(long, short = 'c', alias = "istio-exclude-interfaces", value_name = "NAMES", env = "SORTIE_EXCLUDE_INTERFACES", default_value = "", hide_default_value = true, value_parser = list::<String>)]
    exclude_interfaces: Listed<String>,
    /// Interfaces of virtual machines, whose traffic counts as outbound
    #[arg(long, short = 'k', alias = "kube-virt-interfaces", value_name = "NAMES", env = "SORTIE_VIRTUAL_INTERFACES", default_value = "", hide_default_value = true, value_parser = list::<String>)]
    virtual_interfaces: Listed<String>,
    /// Rules for IPv6 too: auto is where an interface has a global address
    #[arg(long, value_name = "WHEN", env = "SORTIE_IPV6", value_enum, default_value_t = Ipv6::Auto)]
    ipv6: Ipv6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Ipv6 {
    Auto,
    On,
    Off,
}

fn port(text: &str) -> Result<u16, &'static str> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or("a port is a number from 1 to 65535")
}

impl What {
    fn spec(&self) -> CaptureSpec {
        CaptureSpec {
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            uids: self.uid.clone(),
            gids: self.gid.clone(),
            interception: self.interception,
            outbound_ranges: self.outbound_ranges.clone(),
            exclude_outbound_ranges: self.exclude_outbound_ranges.clone(),
            outbound_ports: self.outbound_ports.clone(),
            exclude_outbound_ports: self.exclude_outbound_ports.clone(),
            inbound_ports: self.inbound_ports.clone(),
            exclude_inbound_ports: self.exclude_inbound_ports.clone(),
            exclude_interfaces: self.exclude_interfaces.clone(),
            virtual_interfaces: self.virtual_interfaces.clone(),
        }
    }

    /// The rules of every family, once nothing contradicts itself.
    fn rules(&self) -> Result<Vec<Ruleset>, ExitCode> {
        let spec = self.spec();
        let conflicts = capture::conflicts(&spec);
        for conflict in &conflicts {
            say(conflict);
        }
        if !conflicts.is_empty() {
            return Err(ExitCode::from(USAGE));
        }
        let families = match self.with_ipv6() {
            true => &Family::ALL[..],
            false => &[Family::V4],
        };
        Ok(families
            .iter()
            .map(|family| capture::rules(&spec, *family))
            .collect())
    }

    fn with_ipv6(&self) -> bool {
        match self.ipv6 {
            Ipv6::On => true,
            Ipv6::Off => false,
            Ipv6::Auto => capture::has_global_ipv6(),
        }
    }
}

/// Runs the command: 0 done, 1 failed, 64 what was asked for contradicts itself.
pub fn run(args: Args) -> ExitCode {
    let done = match &args.command {
        Command::Print(args) => args.run(),
        Command::Apply(args) => args.run(),
        Command::Remove(_) => capture::remove().map_err(|error| failed(&error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

impl PrintArgs {
    fn run(&self) -> Result<(), ExitCode> {
        let rules = self.what.rules()?;
        match print(&capture::nftables_text(&rules)) {
            true => Ok(()),
            false => Err(ExitCode::FAILURE),
        }
    }
}

impl ApplyArgs {
    fn run(&self) -> Result<(), ExitCode> {
        let rules = self.what.rules()?;
        capture::apply(&rules).map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    say(error);
    ExitCode::FAILURE
}

/// One line on standard error.
fn say(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "sortie capture: {what}");
}
