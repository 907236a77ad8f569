/**
 * Who a process is, in words that another process can judge later: is that writer dead?
 *
 * Invariant: "dead" is only answered when it is proved. A process id alone proves nothing
 * (ids are used again), so its start time in clock ticks stands beside it; ids of another
 * PID namespace (a container) or another machine cannot be looked up from here at all.
 */
import { createHash } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

export interface ProcessIdentity {
  /** 16 hex digits of a hash of the machine's id and host name. */
  readonly machine: string
  /** Linux boot id, 32 hex digits; `0` where the kernel does not tell. */
  readonly boot: string
  /** Inode of the PID namespace. */
  readonly pidNamespace: string
  readonly pid: number
  /** Field 22 of /proc/PID/stat: start after boot, in clock ticks. */
  readonly startTicks: string
}

export type Liveness = 'dead' | 'alive' | 'unknown'

export function readProcessIdentity(): ProcessIdentity {
  return {
    machine: hashOf(`${machineId()}\n${hostname()}`),
    boot: readText('/proc/sys/kernel/random/boot_id')?.replaceAll('-', '') ?? '0',
    pidNamespace: readPidNamespace(),
    pid: process.pid,
    startTicks: readStartTicks('self') ?? '0',
  }
}

/** `machine.boot.namespace.pid.ticks`, made of characters that a file name may have. */
export function formatProcessIdentity(identity: ProcessIdentity): string {
  const { machine, boot, pidNamespace, pid, startTicks } = identity
  return `${machine}.${boot}.${pidNamespace}.${pid}.${startTicks}`
}

export function parseProcessIdentity(text: string): ProcessIdentity | undefined {
  const match = /^([0-9a-f]{16})\.([0-9a-f]+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  if (match === null) return undefined
  const [, machine, boot, pidNamespace, pid, startTicks] = match as unknown as string[]
  if (machine === undefined || boot === undefined || pidNamespace === undefined) return undefined
  if (pid === undefined || startTicks === undefined) return undefined
  return { machine, boot, pidNamespace, pid: Number(pid), startTicks }
}

/**
 * Judges a process by what is known of it and of the one that asks. `startTicksOf` answers
 * for an id of the own namespace: its start ticks, undefined for a proved absence,
 * `unknown` for a process that is there and tells nothing (/proc mounted with hidepid).
 */
export function judgeLiveness(
  other: ProcessIdentity,
  self: ProcessIdentity,
  startTicksOf: (pid: number) => string | undefined,
): Liveness {
  if (other.machine !== self.machine) return 'unknown'
  if (other.boot === '0' || self.boot === '0') return 'unknown'
  if (other.boot !== self.boot) return 'dead'
  if (other.pidNamespace !== self.pidNamespace) return 'unknown'
  const ticks = startTicksOf(other.pid)
  if (ticks === undefined) return 'dead'
  if (ticks === 'unknown' || other.startTicks === '0') return 'unknown'
  return ticks === other.startTicks ? 'alive' : 'dead'
}

/** The `startTicksOf` of this machine. */
export function lookUpStartTicks(pid: number): string | undefined {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return undefined
  }
  return readStartTicks(String(pid)) ?? 'unknown'
}

/** The command's name stands in parentheses and may hold anything: count from its end. */
function readStartTicks(pid: string): string | undefined {
  const text = readText(`/proc/${pid}/stat`)
  if (text === undefined) return undefined
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[19]
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

function readPidNamespace(): string {
  try {
    return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
  } catch {
    return '0'
  }
}

function machineId(): string {
  return readText('/etc/machine-id') ?? readText('/var/lib/dbus/machine-id') ?? ''
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1').trim()
  } catch {
    return undefined
  }
}
