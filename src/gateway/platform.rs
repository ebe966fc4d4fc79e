//! Where the gateway runs, as far as it matters for advice: how this place is given more memory, and the gateway
//! another heap.

use super::heap::{HeapChoice, HeapWish};

/// What is known of the place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// `FLY_MACHINE_ID`; also says that this is a Fly machine.
    pub fly_machine: Option<&'a str>,
    /// `FLY_VM_MEMORY_MB`: the size that was asked for. The kernel keeps some of it for itself.
    pub fly_memory_mb: Option<u64>,
    /// Processors of the machine.
    pub cpus: u64,
    /// `KUBERNETES_SERVICE_HOST` is set.
    pub is_kubernetes: bool,
    /// The container engine that started us, by the name of its command.
    pub engine: Option<&'static str>,
    /// The host's name: Docker and podman give a container the start of its id.
    pub host: &'a str,
    /// The memory limit.
    pub limit_bytes: u64,
    /// True when a cgroup sets it and not the machine.
    pub is_cgroup_limit: bool,
}

/// What 2026.9.6 needs with its helpers, a browser channel and room for a spike.
const RECOMMENDED_MB: u64 = 2048;

/// A shared CPU of Fly's takes at most this much, a performance CPU at least this much
/// (fly.io/docs/machines/guides-examples/machine-sizing): as many CPUs as multiples of it fit both kinds.
const FLY_MB_PER_CPU: u64 = 2048;
const FLY_CPUS_MAX: u64 = 16;
/// Eight shared CPUs are the most of their kind.
const FLY_SHARED_MOST_MB: u64 = 16_384;
/// The largest machine there is.
const FLY_MOST_MB: u64 = 131_072;

/// How a person gives this place more memory: the command where there is one.
#[must_use]
pub fn how_to_grow(place: Place<'_>) -> String {
    let present_mb = place.fly_memory_mb.unwrap_or(place.limit_bytes >> 20);
    let to_mb = next_size_mb(present_mb);
    if let Some(machine) = place.fly_machine {
        return fly(machine, to_mb, place.cpus);
    }
    let to = if to_mb.is_multiple_of(1024) {
        format!("{}g", to_mb / 1024)
    } else {
        format!("{to_mb}m")
    };
    if place.is_kubernetes {
        return format!(
            "raise resources.limits.memory of the container to {}Mi",
            to_mb
        );
    }
    if let (Some(engine), true) = (place.engine, place.is_cgroup_limit) {
        let container = if is_container_id(place.host) {
            place.host
        } else {
            "<container>"
        };
        // The heap is fitted to the limit when clawkeeper starts, and Docker refuses a memswap_limit below the memory.
        return format!(
            "{engine} update --memory {to} --memory-swap {to} {container}, then {engine} restart {container}; in compose.yaml mem_limit: {to} and memswap_limit: {to}"
        );
    }
    if place.is_cgroup_limit {
        return format!(
            "raise the cgroup's memory limit to {to_mb} MB (systemd: MemoryMax={to_mb}M)"
        );
    }
    format!("give the machine {to_mb} MB of memory")
}

/// A heap as it was chosen, with what decides how it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapSetting {
    /// What became of it.
    pub choice: HeapChoice,
    /// What was wished.
    pub wish: HeapWish,
    /// Whether the command's first word is Node, so that clawkeeper can set a size.
    pub is_node: bool,
    /// What is set where nobody asks for a size, in MB.
    pub fitted_mb: u32,
    /// Whether this is a Fly machine.
    pub is_on_fly: bool,
}

impl HeapSetting {
    /// How a person gives the gateway a heap of this size.
    #[must_use]
    pub fn how_to_set(self, mb: u32) -> String {
        let on_fly = |section: &str| {
            if self.is_on_fly {
                format!(" ([{section}] in fly.toml)")
            } else {
                String::new()
            }
        };
        let is_set_unasked = self.is_node && self.wish == HeapWish::Fitted && mb == self.fitted_mb;
        let option = format!("--max-old-space-size={mb}");
        match self.choice {
            HeapChoice::ByCommand(_) if is_set_unasked => format!(
                "take --max-old-space-size out of the command{}, and {mb} MB are set",
                on_fly("processes")
            ),
            HeapChoice::ByCommand(_) => {
                format!("set {option} in the command{}", on_fly("processes"))
            }
            HeapChoice::ByEnvironment(_) if is_set_unasked => format!(
                "take --max-old-space-size out of NODE_OPTIONS{}, and {mb} MB are set",
                on_fly("env")
            ),
            HeapChoice::ByEnvironment(_) => {
                format!("set {option} in NODE_OPTIONS{}", on_fly("env"))
            }
            HeapChoice::Sized(_) if self.wish != HeapWish::Fitted && mb == self.fitted_mb => {
                format!(
                    "unset CLAWKEEPER_HEAP (--heap){}, or set it to {mb}",
                    on_fly("env")
                )
            }
            HeapChoice::Left if !self.is_node => {
                format!("add {option} to NODE_OPTIONS{}", on_fly("env"))
            }
            HeapChoice::Sized(_) | HeapChoice::Left => {
                format!("set CLAWKEEPER_HEAP={mb}{}", on_fly("env"))
            }
        }
    }
}

/// The next size up: at least what the gateway needs, else twice as much.
fn next_size_mb(present_mb: u64) -> u64 {
    // A limit is often a little below a round size, because the kernel keeps some for itself.
    let steps = (8..=20).map(|power| 1u64 << power);
    let above = steps
        .into_iter()
        .find(|size| *size > present_mb + present_mb / 10);
    above.unwrap_or(present_mb).max(RECOMMENDED_MB)
}

fn fly(machine: &str, to_mb: u64, cpus: u64) -> String {
    if to_mb > FLY_MOST_MB {
        return "no Fly machine is larger: give the gateway less to do, or find what fills it (--heap-dump)".to_owned();
    }
    let cpus_needed = (to_mb / FLY_MB_PER_CPU).min(FLY_CPUS_MAX);
    let more_cpus = if cpus_needed > cpus.max(1) {
        format!(" --vm-cpus {cpus_needed}")
    } else {
        String::new()
    };
    let kind = if to_mb > FLY_SHARED_MOST_MB {
        " --vm-cpu-kind performance"
    } else {
        ""
    };
    format!(
        "fly machine update {machine} --vm-memory {to_mb}{kind}{more_cpus}, and memory in [[vm]] of fly.toml, or the next deploy undoes it"
    )
}

fn is_container_id(host: &str) -> bool {
    host.len() == 12
        && host
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn a_fly_machine_gets_its_own_command_with_the_next_size_up() {
        let machine = |memory_mb, cpus| {
            how_to_grow(Place {
                fly_machine: Some("3d8d9014b32d68"),
                fly_memory_mb: Some(memory_mb),
                cpus,
                limit_bytes: (memory_mb - 40) * MB,
                ..Place::default()
            })
        };
        let command = |memory_mb, cpus| {
            let text = machine(memory_mb, cpus);
            let (command, _) = text.split_once(',').expect("a command and what keeps it");
            command.to_owned()
        };
        let update = "fly machine update 3d8d9014b32d68 --vm-memory";
        for (memory_mb, cpus, rest) in [
            (256, 1, "2048"),
            (512, 1, "2048"),
            (1024, 1, "2048"),
            (1792, 1, "2048"),
            (2048, 1, "4096 --vm-cpus 2"),
            (2048, 2, "4096"),
            (3072, 2, "4096"),
            (4096, 2, "8192 --vm-cpus 4"),
            (8192, 4, "16384 --vm-cpus 8"),
            (16_384, 8, "32768 --vm-cpu-kind performance --vm-cpus 16"),
            (65_536, 16, "131072 --vm-cpu-kind performance"),
        ] {
            assert_eq!(command(memory_mb, cpus), format!("{update} {rest}"));
        }
        assert!(!machine(131_072, 16).contains("fly machine update"));
        assert!(
            machine(1024, 1).contains("[[vm]]"),
            "or the next deploy undoes it"
        );
    }

    #[test]
    fn elsewhere_the_words_are_of_what_sets_the_limit() {
        let container = Place {
            engine: Some("docker"),
            is_cgroup_limit: true,
            host: "0123456789ab",
            limit_bytes: 512 * MB,
            ..Place::default()
        };
        assert_eq!(
            how_to_grow(container),
            "docker update --memory 2g --memory-swap 2g 0123456789ab, then docker restart 0123456789ab; \
             in compose.yaml mem_limit: 2g and memswap_limit: 2g"
        );
        let podman = Place {
            engine: Some("podman"),
            ..container
        };
        assert!(how_to_grow(podman).starts_with("podman update --memory 2g "));
        let named = Place {
            host: "gateway",
            ..container
        };
        assert!(how_to_grow(named).contains("<container>"));
        let pod = Place {
            is_kubernetes: true,
            ..container
        };
        assert!(how_to_grow(pod).contains("resources.limits.memory"));
        let service = Place {
            engine: None,
            limit_bytes: 3000 * MB,
            ..container
        };
        assert!(how_to_grow(service).contains("MemoryMax=4096M"));
        let machine = Place {
            limit_bytes: 3_900 * MB,
            ..Place::default()
        };
        assert_eq!(how_to_grow(machine), "give the machine 8192 MB of memory");
        let unlimited_container = Place {
            is_cgroup_limit: false,
            ..container
        };
        assert_eq!(
            how_to_grow(unlimited_container),
            "give the machine 2048 MB of memory"
        );
    }

    #[test]
    fn a_heap_is_set_where_it_was_set_and_left_out_where_the_same_is_set_unasked() {
        use HeapChoice::{ByCommand, ByEnvironment, Left, Sized};
        let how = |choice, wish, is_node, mb| {
            let setting = HeapSetting {
                choice,
                wish,
                is_node,
                fitted_mb: 1_337,
                is_on_fly: false,
            };
            setting.how_to_set(mb)
        };
        let (auto, off) = (HeapWish::Fitted, HeapWish::None);
        let wished = HeapWish::Mb(1_536);
        for (choice, wish, is_node, words) in [
            (
                Sized(1_536),
                wished,
                true,
                "unset CLAWKEEPER_HEAP (--heap), or set it to 1337",
            ),
            (Left, off, true, "set CLAWKEEPER_HEAP=1337"),
            (
                Left,
                wished,
                false,
                "add --max-old-space-size=1337 to NODE_OPTIONS",
            ),
            (
                ByEnvironment(1_536),
                auto,
                true,
                "take --max-old-space-size out of NODE_OPTIONS, and 1337 MB are set",
            ),
            (
                ByEnvironment(1_536),
                auto,
                false,
                "set --max-old-space-size=1337 in NODE_OPTIONS",
            ),
            (
                ByEnvironment(1_536),
                off,
                true,
                "set --max-old-space-size=1337 in NODE_OPTIONS",
            ),
            (
                ByCommand(1_536),
                auto,
                true,
                "take --max-old-space-size out of the command, and 1337 MB are set",
            ),
            (
                ByCommand(1_536),
                wished,
                true,
                "set --max-old-space-size=1337 in the command",
            ),
        ] {
            assert_eq!(
                how(choice, wish, is_node, 1_337),
                words,
                "{choice:?} {wish:?}"
            );
        }
        let larger = how(Sized(4_096), auto, true, 8_192);
        assert_eq!(larger, "set CLAWKEEPER_HEAP=8192");
        let on_fly = HeapSetting {
            choice: Left,
            wish: off,
            is_node: true,
            fitted_mb: 1_337,
            is_on_fly: true,
        };
        assert_eq!(
            on_fly.how_to_set(1_337),
            "set CLAWKEEPER_HEAP=1337 ([env] in fly.toml)"
        );
    }
}
