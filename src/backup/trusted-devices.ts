/**
 * Tells which devices hold files whose times prove something: local file systems, whose
 * times come from this kernel's clock at every write. Network file systems take them from
 * another host or late, FUSE from anybody. What is not known is not trusted.
 */
import { statfsSync } from 'node:fs'
import type { Listed } from './list-files.ts'

/** f_type of statfs(2): linux/magic.h. */
const LOCAL_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0xef53, 'ext2/3/4'],
  [0x58465342, 'XFS'],
  [0x9123683e, 'Btrfs'],
  [0x01021994, 'tmpfs'],
  [0x2fc12fc1, 'ZFS'],
  [0xf2f52010, 'F2FS'],
  [0xca451a4e, 'bcachefs'],
  [0x3153464a, 'JFS'],
  [0x794c7630, 'overlayfs'],
])

function isTrustedFileSystem(type: number): boolean {
  return LOCAL_FILE_SYSTEMS.has(type)
}

/** Asks once per device, by the first file that is on it. */
export function findTrustedDevices(
  listed: Iterable<Listed>,
  typeOf: (location: string) => number | undefined = readFileSystemType,
): ReadonlySet<bigint> {
  const known = new Set<bigint>()
  const trusted = new Set<bigint>()
  for (const entry of listed) {
    if (entry.kind !== 'file' || known.has(entry.status.device)) continue
    const type = typeOf(entry.location)
    if (type === undefined) continue
    known.add(entry.status.device)
    if (isTrustedFileSystem(type)) trusted.add(entry.status.device)
  }
  return trusted
}

function readFileSystemType(location: string): number | undefined {
  try {
    // The kernel's f_type is a signed long on some machines.
    return statfsSync(location).type >>> 0
  } catch {
    return undefined
  }
}
