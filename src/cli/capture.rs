//! `sortie capture`: which traffic the kernel redirects into the proxy.
//!
//! Owns: its arguments, which are also istio-iptables', and what is said of the outcome.
//! Never: makes a rule.
//! Called by: cli.

use std::io::Write;
use std::process::ExitCode;

use ipnet::IpNet;
use serde_json::json;

use super::command::USAGE;
use super::table::print;
use crate::capture::{self, Backend, Family, Ruleset};
use crate::model::{CaptureSpec, Chosen, Interception, list};

/// Redirect traffic into the proxy: print, apply, check or remove the kernel's rules
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The short letters and long names of istio-iptables are taken too. Where \
    the application calls a listener or a proxy by itself, nothing need be captured."
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the rules as text, for nft or iptables-restore
    Print(PrintArgs),
    /// Apply the rules; twice is the same as once, and a failure leaves nothing behind
    Apply(ApplyArgs),
    /// Tell whether the rules are there exactly: exit code 0, or 1 and what differs
    Check(CheckArgs),
    /// Remove the rules, whatever they were applied with
    Remove(RemoveArgs),
}

#[derive(Debug, clap::Args)]
struct PrintArgs {
    #[command(flatten)]
    what: What,
    /// In whose words
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Nftables)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct ApplyArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    by: By,
    /// Print what would be applied, and apply nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    by: By,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Who sets the rules
#[derive(Debug, clap::Args)]
struct By {
    /// By netlink, without any program, or by iptables-restore
    #[arg(
        long,
        value_name = "WHO",
        env = "SORTIE_CAPTURE_BACKEND",
        value_enum,
        default_value_t = BackendName::Nftables
    )]
    backend: BackendName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BackendName {
    Nftables,
    Iptables,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Backend {
        match name {
            BackendName::Nftables => Backend::Nftables,
            BackendName::Iptables => Backend::Iptables,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For nft -f
    Nftables,
    /// For iptables-restore --noflush
    Iptables,
    /// For ip6tables-restore --noflush
    Ip6tables,
}

// Not `Vec`, which clap would take for a flag that is repeated.
type Listed<T> = Vec<T>;

/// Ranges, ports and users: what is captured
#[derive(Debug, clap::Args)]
struct What {
    /// Port of the proxy that outbound connections go to
    #[arg(long, short = 'p', alias = "envoy-port", value_name = "PORT", default_value_t = 15001, value_parser = port)]
    outbound_port: u16,
    /// Port of the proxy that inbound connections go to
    #[arg(long, short = 'z', alias = "inbound-capture-port", value_name = "PORT", default_value_t = 15006, value_parser = port)]
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
    /// Rules for IPv6 too: auto is where the kernel has it
    #[arg(long, value_name = "WHEN", env = "SORTIE_IPV6", value_enum, default_value_t = Ipv6::Auto)]
    ipv6: Ipv6,
    #[command(flatten)]
    theirs: Theirs,
}

/// Flags of istio-iptables that mean nothing here, so that its command lines are taken.
#[derive(Debug, clap::Args)]
struct Theirs {
    #[arg(long = "log_output_level", hide = true, value_name = "LEVEL")]
    _log_output_level: Option<String>,
    #[arg(long = "log_as_json", hide = true, num_args = 0..=1, require_equals = true)]
    _log_as_json: Option<Option<bool>>,
    #[arg(long = "run-validation", hide = true, num_args = 0..=1, require_equals = true)]
    _run_validation: Option<Option<bool>>,
    #[arg(long = "skip-rule-apply", hide = true, num_args = 0..=1, require_equals = true)]
    _skip_rule_apply: Option<Option<bool>>,
    #[arg(long = "native-nftables", hide = true, num_args = 0..=1, require_equals = true)]
    _native_nftables: Option<Option<bool>>,
    #[arg(long = "force-apply", hide = true, num_args = 0..=1, require_equals = true)]
    _force_apply: Option<Option<bool>>,
    #[arg(long = "dual-stack", hide = true, num_args = 0..=1, require_equals = true)]
    _dual_stack: Option<Option<bool>>,
    #[arg(long = "iptables-probe-port", hide = true, value_name = "PORT")]
    _probe_port: Option<u16>,
    #[arg(long = "probe-timeout", hide = true, value_name = "TIME")]
    _probe_timeout: Option<String>,
    #[arg(long = "capture-all-dns", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = no_dns)]
    _capture_all_dns: Option<bool>,
    #[arg(long = "redirect-dns", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = no_dns)]
    _redirect_dns: Option<bool>,
}

/// DNS is not captured: names are resolved as if there were no proxy (C5).
fn no_dns(text: &str) -> Result<bool, &'static str> {
    match text {
        "false" => Ok(false),
        _ => Err("DNS is not captured; leave it out, and the application resolves as before"),
    }
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
        for doubt in capture::doubts(&spec) {
            say(&format_args!("warning: {doubt}"));
        }
        let families = match self.with_ipv6() {
            true => &Family::ALL[..],
            false => &[Family::V4],
        };
        if families.contains(&Family::V6) && !capture::loopback_has_ipv6() {
            say(
                &"warning: IPv6 is off on the loopback: what comes in by IPv6 is refused; sysctl \
                  net.ipv6.conf.lo.disable_ipv6=0, and apply again",
            );
        }
        let rules = families.iter().map(|one| capture::rules(&spec, *one));
        Ok(rules.collect())
    }

    /// True where nothing is to be captured (C9): then nothing is asked of the kernel.
    fn is_nothing(&self) -> bool {
        self.interception == Interception::Off
    }

    fn with_ipv6(&self) -> bool {
        match self.ipv6 {
            Ipv6::On => true,
            Ipv6::Off => false,
            Ipv6::Auto => capture::has_ipv6(),
        }
    }
}

/// Where interception is NONE.
const NOTHING: &str = "interception is NONE: nothing is to be captured, and nothing was done\n";

/// Runs the command: 0 done, 1 failed or not there, 64 what was asked for contradicts itself.
pub fn run(args: Args) -> ExitCode {
    let done = match &args.command {
        Command::Print(args) => args.run(),
        Command::Apply(args) => args.run(),
        Command::Check(args) => args.run(),
        Command::Remove(args) => args.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

impl PrintArgs {
    fn run(&self) -> Result<(), ExitCode> {
        let rules = self.what.rules()?;
        out(&text(&rules, self.format))
    }
}

impl ApplyArgs {
    fn run(&self) -> Result<(), ExitCode> {
        if self.what.is_nothing() {
            return out(NOTHING);
        }
        let rules = self.what.rules()?;
        if self.dry_run {
            return self.show(&rules);
        }
        let changed = capture::apply(&rules, self.by.backend.into()).map_err(|e| failed(&e))?;
        if self.json {
            return out(&format!("{}\n", json!({ "changed": changed })));
        }
        let already = if changed { "" } else { "already " };
        let summary = summary(&self.what.spec(), &rules);
        out(&format!("{already}applied: {summary}\n"))
    }

    fn show(&self, rules: &[Ruleset]) -> Result<(), ExitCode> {
        match self.by.backend {
            BackendName::Nftables => out(&text(rules, Format::Nftables)),
            BackendName::Iptables => {
                out(&text(rules, Format::Iptables))?;
                out(&text(rules, Format::Ip6tables))
            }
        }
    }
}

impl CheckArgs {
    fn run(&self) -> Result<(), ExitCode> {
        if self.what.is_nothing() {
            return out(NOTHING);
        }
        let rules = self.what.rules()?;
        let difference = capture::check(&rules, self.by.backend.into()).map_err(|e| failed(&e))?;
        let there = difference.is_none();
        if self.json {
            let (missing, extra) = (&difference.missing, &difference.extra);
            let all = json!({ "applied": there, "missing": missing, "extra": extra });
            out(&format!("{all:#}\n"))?;
        } else if there {
            out(&format!(
                "in place: {}\n",
                summary(&self.what.spec(), &rules)
            ))?;
        } else {
            let missing = difference
                .missing
                .iter()
                .map(|one| format!("missing  {one}\n"));
            let extra = difference
                .extra
                .iter()
                .map(|one| format!("extra    {one}\n"));
            out(&missing.chain(extra).collect::<String>())?;
        }
        match there {
            true => Ok(()),
            false => Err(ExitCode::FAILURE),
        }
    }
}

impl RemoveArgs {
    fn run(&self) -> Result<(), ExitCode> {
        let removed = capture::remove().map_err(|e| failed(&e))?;
        match (self.json, removed) {
            (true, _) => out(&format!("{}\n", json!({ "changed": removed }))),
            (false, true) => out("removed\n"),
            (false, false) => out("nothing was there to be removed\n"),
        }
    }
}

fn text(rules: &[Ruleset], format: Format) -> String {
    let of = |family| {
        let found = rules.iter().find(|one| one.family == family);
        found.map(capture::iptables_text).unwrap_or_default()
    };
    // What is not a rule of the packet filter, and is needed too.
    let beside = |wanted: fn(&str) -> bool| {
        let commands = capture::commands(rules).into_iter();
        let lines = commands.filter(|line| wanted(line));
        lines
            .map(|line| format!("# needed too: {line}\n"))
            .collect::<String>()
    };
    let six = |line: &str| line.starts_with("ip -6");
    match format {
        Format::Nftables => beside(|_| true) + &capture::nftables_text(rules),
        Format::Iptables => beside(|line| !line.starts_with("ip -6")) + &of(Family::V4),
        Format::Ip6tables => beside(six) + &of(Family::V6),
    }
}

/// `IPv4 and IPv6, outbound to 15001, inbound to 15006 (REDIRECT)`.
fn summary(spec: &CaptureSpec, rules: &[Ruleset]) -> String {
    let families: Vec<&str> = rules
        .iter()
        .map(|one| match one.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
        .collect();
    let count: usize = rules
        .iter()
        .flat_map(|one| &one.chains)
        .map(|one| one.rules.len())
        .sum();
    let proxy = match spec.interception {
        Interception::Tproxy => {
            "TPROXY: sortie run --interception=TPROXY, as root with the capability NET_ADMIN"
        }
        _ => "REDIRECT",
    };
    format!(
        "{count} rules, {}; outbound to port {}, inbound to port {} ({proxy})",
        families.join(" and "),
        spec.outbound_port,
        spec.inbound_port
    )
}

fn out(text: &str) -> Result<(), ExitCode> {
    match print(text) {
        true => Ok(()),
        false => Err(ExitCode::FAILURE),
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

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn parsed(arguments: &[String]) -> Result<CaptureSpec, clap::Error> {
        let command = What::augment_args(clap::Command::new("capture"));
        let words = std::iter::once("capture").chain(arguments.iter().map(String::as_str));
        let matches = command.try_get_matches_from(words)?;
        Ok(What::from_arg_matches(&matches)?.spec())
    }

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn c2_no_flag_is_istios_default() {
        assert_eq!(parsed(&[]).unwrap(), CaptureSpec::default());
    }

    #[test]
    fn c2_a_command_line_of_istio_iptables_means_the_same_here() {
        // As the injector of Istio writes it, and with the long names.
        let short = "-p 15001 -z 15006 -u 1337 -m REDIRECT -i * -x 10.1.0.0/16 -b * -d \
                     15090,15021,15020 -o 3306 -q 443 -c eth1 -k tap0 -g 0 \
                     --log_output_level=default:info --run-validation --redirect-dns=false";
        let long = "--envoy-port 15001 --inbound-capture-port 15006 --proxy-uid 1337 \
                    --istio-inbound-interception-mode REDIRECT --istio-service-cidr * \
                    --istio-service-exclude-cidr 10.1.0.0/16 --istio-inbound-ports * \
                    --istio-local-exclude-ports 15090,15021,15020 \
                    --istio-local-outbound-ports-exclude 3306 --istio-outbound-ports 443 \
                    --istio-exclude-interfaces eth1 --kube-virt-interfaces tap0 --proxy-gid 0";
        let spec = CaptureSpec {
            exclude_outbound_ranges: list("10.1.0.0/16").unwrap(),
            exclude_inbound_ports: vec![15090, 15021, 15020],
            exclude_outbound_ports: vec![3306],
            outbound_ports: vec![443],
            exclude_interfaces: vec!["eth1".to_owned()],
            virtual_interfaces: vec!["tap0".to_owned()],
            gids: vec![0],
            ..CaptureSpec::default()
        };
        assert_eq!(parsed(&words(short)).unwrap(), spec);
        assert_eq!(parsed(&words(long)).unwrap(), spec);
        assert_eq!(capture::conflicts(&spec), []);
    }

    #[test]
    fn c2_a_word_that_does_not_fit_is_named_with_its_flag() {
        for (arguments, expected) in [
            ("--redirect-dns=true", "DNS is not captured"),
            ("--redirect-dns", "DNS is not captured"),
            ("-b 80,http", "\"http\" is not a port"),
            ("-p 0", "1 to 65535"),
            ("-i 10.0.0.0/99", "is not a range"),
            ("-m MAYBE", "REDIRECT, TPROXY or NONE"),
            ("-c eth0;reboot", "the name of an interface"),
        ] {
            let error = parsed(&words(arguments)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("--"), "{error}");
        }
    }

    fn ranges() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (any::<[u8; 4]>(), 0_u8..=32)
            .prop_map(|(ip, bits)| IpNet::new(ip.into(), bits).unwrap().trunc());
        let v6 = (any::<[u8; 16]>(), 0_u8..=128)
            .prop_map(|(ip, bits)| IpNet::new(ip.into(), bits).unwrap().trunc());
        vec(prop_oneof![v4, v6], 0..4)
    }

    fn chosen<T: std::fmt::Debug + Clone>(
        some: impl Strategy<Value = Vec<T>>,
    ) -> impl Strategy<Value = Chosen<T>> {
        prop_oneof![Just(Chosen::All), some.prop_map(Chosen::Only)]
    }

    fn ports() -> impl Strategy<Value = Vec<u16>> {
        btree_set(1_u16.., 0..4).prop_map(|ports| ports.into_iter().collect())
    }

    fn specs() -> impl Strategy<Value = CaptureSpec> {
        let modes = [
            Interception::Redirect,
            Interception::Tproxy,
            Interception::Off,
        ];
        let who = (
            vec(any::<u32>(), 0..3),
            vec(any::<u32>(), 0..3),
            1_u16..,
            1_u16..,
        );
        let names = || vec("[a-z][a-z0-9.@_-]{0,14}", 0..3);
        let outbound = (chosen(ranges()), ranges(), ports(), ports());
        let inbound = (chosen(ports()), ports(), names(), names());
        (
            who,
            proptest::sample::select(modes.to_vec()),
            outbound,
            inbound,
        )
            .prop_map(
                |((uids, gids, outbound_port, inbound_port), interception, outbound, inbound)| {
                    CaptureSpec {
                        outbound_port,
                        inbound_port,
                        uids,
                        gids,
                        interception,
                        outbound_ranges: outbound.0,
                        exclude_outbound_ranges: outbound.1,
                        outbound_ports: outbound.2,
                        exclude_outbound_ports: outbound.3,
                        inbound_ports: inbound.0,
                        exclude_inbound_ports: inbound.1,
                        exclude_interfaces: inbound.2,
                        virtual_interfaces: inbound.3,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn i3_every_spec_is_the_same_after_its_flags_were_read(spec in specs()) {
            prop_assert_eq!(parsed(&spec.to_args()).unwrap(), spec);
        }
    }
}
