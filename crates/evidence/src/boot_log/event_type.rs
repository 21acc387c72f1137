//! Names of event types.

use std::fmt;

/// The type of an event (TCG PC Client Platform Firmware Profile 1.06, section 10.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventType(pub u32);

macro_rules! event_types {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        impl EventType {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The standard's name; nothing where it defines none.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    /// Reserved.
    PREBOOT_CERT = 0x0000_0000, "EV_PREBOOT_CERT";
    /// Code or tables of the platform firmware.
    POST_CODE = 0x0000_0001, "EV_POST_CODE";
    /// Informative: extends no register.
    NO_ACTION = 0x0000_0003, "EV_NO_ACTION";
    /// The end of a phase of the boot.
    SEPARATOR = 0x0000_0004, "EV_SEPARATOR";
    /// An action, named by its data.
    ACTION = 0x0000_0005, "EV_ACTION";
    /// A tagged event.
    EVENT_TAG = 0x0000_0006, "EV_EVENT_TAG";
    /// Contents of the root of trust for measurement.
    S_CRTM_CONTENTS = 0x0000_0007, "EV_S_CRTM_CONTENTS";
    /// Version of the root of trust for measurement.
    S_CRTM_VERSION = 0x0000_0008, "EV_S_CRTM_VERSION";
    /// Processor microcode.
    CPU_MICROCODE = 0x0000_0009, "EV_CPU_MICROCODE";
    /// Configuration of the platform, ACPI tables among it.
    PLATFORM_CONFIG_FLAGS = 0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS";
    /// Devices.
    TABLE_OF_DEVICES = 0x0000_000b, "EV_TABLE_OF_DEVICES";
    /// A vendor's digest.
    COMPACT_HASH = 0x0000_000c, "EV_COMPACT_HASH";
    /// What a boot loader measures.
    IPL = 0x0000_000d, "EV_IPL";
    /// The boot loader's partition.
    IPL_PARTITION_DATA = 0x0000_000e, "EV_IPL_PARTITION_DATA";
    /// Code of another processor.
    NONHOST_CODE = 0x0000_000f, "EV_NONHOST_CODE";
    /// Configuration of another processor.
    NONHOST_CONFIG = 0x0000_0010, "EV_NONHOST_CONFIG";
    /// Information about another processor.
    NONHOST_INFO = 0x0000_0011, "EV_NONHOST_INFO";
    /// Boot devices were not measured.
    OMIT_BOOT_DEVICE_EVENTS = 0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS";
    /// Code of the platform firmware, with a description.
    POST_CODE2 = 0x0000_0013, "EV_POST_CODE2";
    /// A UEFI variable that configures secure boot.
    EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG";
    /// A UEFI variable that selects what to boot.
    EFI_VARIABLE_BOOT = 0x8000_0002, "EV_EFI_VARIABLE_BOOT";
    /// A UEFI application, such as a boot loader or kernel.
    EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION";
    /// A UEFI driver of the boot phase.
    EFI_BOOT_SERVICES_DRIVER = 0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER";
    /// A UEFI driver that stays.
    EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER";
    /// The partition table of the boot disk.
    EFI_GPT_EVENT = 0x8000_0006, "EV_EFI_GPT_EVENT";
    /// An action of the UEFI firmware, named by its data.
    EFI_ACTION = 0x8000_0007, "EV_EFI_ACTION";
    /// A firmware volume.
    EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB";
    /// Tables handed over.
    EFI_HANDOFF_TABLES = 0x8000_0009, "EV_EFI_HANDOFF_TABLES";
    /// A firmware volume, with a description.
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2";
    /// Tables handed over, with a description: a TD's hand-off block among them.
    EFI_HANDOFF_TABLES2 = 0x8000_000b, "EV_EFI_HANDOFF_TABLES2";
    /// A UEFI variable that selects what to boot, measured whole.
    EFI_VARIABLE_BOOT2 = 0x8000_000c, "EV_EFI_VARIABLE_BOOT2";
    /// The partition table of the boot disk, without device identifiers.
    EFI_GPT_EVENT2 = 0x8000_000d, "EV_EFI_GPT_EVENT2";
    /// An event of the hardware root of trust.
    EFI_HCRTM_EVENT = 0x8000_0010, "EV_EFI_HCRTM_EVENT";
    /// The entry of a signature database that admitted an image.
    EFI_VARIABLE_AUTHORITY = 0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY";
    /// Firmware of a device, by SPDM.
    EFI_SPDM_FIRMWARE_BLOB = 0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB";
    /// Configuration of a device, by SPDM.
    EFI_SPDM_FIRMWARE_CONFIG = 0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG";
    /// Policy for devices, by SPDM.
    EFI_SPDM_DEVICE_POLICY = 0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY";
    /// Authority over devices, by SPDM.
    EFI_SPDM_DEVICE_AUTHORITY = 0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY";
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}
