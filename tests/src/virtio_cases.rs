//! The cases with virtio devices.

use crate::{Case, Endian, PackedFile};

/// Two disks with the same contents.
const TWO_DISKS: &str = "\
[[partition]]
name = \"guest\"
memory = \"64M\"
kernel = \"rings\"
[[partition.disk]]
image = \"disk\"
[[partition.disk]]
image = \"disk\"
";
const DISK: (&str, PackedFile) = ("disk", PackedFile::Disk { sectors: 256 });
const RINGS: &[(&str, PackedFile)] =
    &[("rings", PackedFile::Guest { bin: "rings", endian: Endian::Little }), DISK];
const RINGS_BIG: &[(&str, PackedFile)] =
    &[("rings", PackedFile::Guest { bin: "rings", endian: Endian::Big }), DISK];

/// All of them.
pub fn cases() -> Vec<Case> {
    vec![
        Case::partitions("virtio-rings-le", TWO_DISKS, RINGS),
        Case::partitions("virtio-rings-be", TWO_DISKS, RINGS_BIG),
    ]
}
