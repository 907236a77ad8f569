/**
 * TARGET as a person writes it: one word that names the moment to recover to.
 *
 * Pure. Whether the moment can be reached is judge-target.ts's to say.
 */
import { Failure } from '../base/failure.ts'
import { type Lsn, parseLsn } from '../postgres/lsn.ts'
import type { Microseconds } from '../postgres/wal-event.ts'

export type Target =
  | { readonly kind: 'latest' }
  | { readonly kind: 'immediate' }
  | { readonly kind: 'end-of-gap' }
  | { readonly kind: 'backup'; readonly backup: string }
  | { readonly kind: 'time'; readonly time: Microseconds }
  | { readonly kind: 'lsn'; readonly lsn: Lsn; readonly inclusive: boolean }
  | { readonly kind: 'xid'; readonly xid: number; readonly inclusive: boolean }
  | { readonly kind: 'name'; readonly name: string }

const EXAMPLES =
  'latest, immediate, end-of:gap, 2026-11-20T14:05:00Z, lsn:0/3000060, xid:48211, ' +
  'name:before_migration, backup:ID, before:xid:48211 or before:lsn:0/3000060'
/** MAXFNAMELEN of PostgreSQL, less the terminator: pg_create_restore_point() refuses more. */
const RESTORE_POINT_BYTES = 63
const FIRST_NORMAL_XID = 3
const LAST_XID = 0xffffffff

/** Reads a TARGET; TM1201 with what a target looks like when it is none. */
export function parseTarget(text: string): Target {
  const word = text.trim()
  if (word === 'latest') return { kind: 'latest' }
  if (word === 'immediate') return { kind: 'immediate' }
  if (word === 'end-of:gap') return { kind: 'end-of-gap' }
  const before = word.startsWith('before:')
  const rest = before ? word.slice('before:'.length) : word
  const colon = /^([a-z]+):(.*)$/s.exec(rest)
  if (colon !== null) return parsePrefixed(word, colon[1] as string, colon[2] as string, !before)
  if (before) throw notATarget(word, 'before: goes with xid: and lsn: only')
  return { kind: 'time', time: parseTime(word) }
}

/** The target in the words that parseTarget() reads. */
export function formatTarget(target: Target): string {
  switch (target.kind) {
    case 'latest':
    case 'immediate':
      return target.kind
    case 'end-of-gap':
      return 'end-of:gap'
    case 'backup':
      return `backup:${target.backup}`
    case 'time':
      return formatTime(target.time)
    case 'lsn':
      return `${target.inclusive ? '' : 'before:'}lsn:${formatLsnText(target.lsn)}`
    case 'xid':
      return `${target.inclusive ? '' : 'before:'}xid:${target.xid}`
    case 'name':
      return `name:${target.name}`
  }
}

function formatLsnText(value: Lsn): string {
  const hex = (part: bigint) => part.toString(16).toUpperCase()
  return `${hex(value >> 32n)}/${hex(value & 0xffffffffn)}`
}

function parsePrefixed(word: string, prefix: string, value: string, inclusive: boolean): Target {
  if (prefix === 'lsn') return { kind: 'lsn', lsn: parseLsnValue(word, value), inclusive }
  if (prefix === 'xid') return { kind: 'xid', xid: parseXid(word, value), inclusive }
  if (!inclusive) throw notATarget(word, 'before: goes with xid: and lsn: only')
  if (prefix === 'name') return { kind: 'name', name: parseName(word, value) }
  if (prefix === 'backup') {
    if (value === '') throw notATarget(word, 'backup: needs the id that `tidemark list` shows')
    return { kind: 'backup', backup: value }
  }
  if (prefix === 'time') return { kind: 'time', time: parseTime(value) }
  throw notATarget(word, `'${prefix}:' begins no target`)
}

function parseLsnValue(word: string, value: string): Lsn {
  const parsed = parseLsn(value)
  if (parsed === undefined) {
    throw notATarget(word, `'${value}' is not an LSN: two hexadecimal numbers, as in 0/3000060`)
  }
  return parsed
}

function parseXid(word: string, value: string): number {
  if (!/^\d{1,20}$/.test(value)) {
    throw notATarget(word, `'${value}' is not a transaction id: decimal digits only`)
  }
  const number = BigInt(value)
  // txid_current() and pg_current_xact_id() count wraps in the upper half; WAL does not.
  const xid = Number(number & 0xffffffffn)
  if (number >= 1n << 64n || xid < FIRST_NORMAL_XID || xid > LAST_XID) {
    throw notATarget(word, `'${value}' is not the id of a transaction`)
  }
  return xid
}

function parseName(word: string, value: string): string {
  const length = Buffer.byteLength(value)
  if (length === 0 || length > RESTORE_POINT_BYTES) {
    throw notATarget(word, `the name of a restore point has 1 to ${RESTORE_POINT_BYTES} bytes`)
  }
  return value
}

const TIME = /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(.*)$/
const ZONE = /^(?:Z|UTC|GMT|([+-])(\d{2})(?::?(\d{2}))?)$/i

/** Reads an ISO 8601 time with its zone; TM1201 for anything else. */
export function parseTime(text: string): Microseconds {
  const match = TIME.exec(text)
  if (match === null) throw notATarget(text, looksLikeDate(text))
  const [, year, month, day, hour, minute, second = '0', fraction = '', zone = ''] = match
  const offsetMinutes = parseZone(text, zone)
  const numbers = [year, month, day, hour, minute, second].map(Number) as SixNumbers
  const ms = Date.UTC(numbers[0], numbers[1] - 1, ...(numbers.slice(2) as FourNumbers))
  if (!isSameMoment(ms, numbers)) throw notATarget(text, 'there is no such day or time')
  const micros = BigInt(fraction.padEnd(6, '0').slice(0, 6))
  return BigInt(ms) * 1000n + micros - BigInt(offsetMinutes) * 60_000_000n
}

type SixNumbers = [number, number, number, number, number, number]
type FourNumbers = [number, number, number, number]

function isSameMoment(ms: number, [year, month, day, hour, minute, second]: SixNumbers): boolean {
  const date = new Date(ms)
  return (
    date.getUTCFullYear() === year &&
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second
  )
}

function parseZone(text: string, zone: string): number {
  const match = ZONE.exec(zone)
  if (match === null) {
    const missing = zone === ''
    throw new Failure('TM1201', {
      message: `'${text}' is not a recovery target`,
      because: missing
        ? 'the time has no zone, so it could mean a moment hours away'
        : `'${zone}' is not a zone: Z or an offset like +01:00`,
      fix: missing
        ? `write the zone: ${text.trim()}Z for UTC, or an offset like ${text.trim()}+01:00`
        : 'write Z for UTC, or an offset like +01:00',
    })
  }
  if (match[1] === undefined) return 0
  const minutes = Number(match[2]) * 60 + Number(match[3] ?? '0')
  if (minutes > 16 * 60 || Number(match[3] ?? '0') > 59) {
    throw notATarget(text, `no zone is ${zone} from UTC`)
  }
  return match[1] === '-' ? -minutes : minutes
}

function looksLikeDate(text: string): string {
  return /^\d{4}-\d{2}-\d{2}$/.test(text)
    ? 'a date alone is not a moment: it needs a time and a zone'
    : 'it is neither a known word nor a time'
}

/** ISO 8601 in UTC, with as many fraction digits as are needed (none, 3 or 6). */
export function formatTime(time: Microseconds): string {
  const floorMs = time >= 0n ? time / 1000n : -((-time + 999n) / 1000n)
  const micros = time - floorMs * 1000n
  const iso = new Date(Number(floorMs)).toISOString()
  if (micros !== 0n) return `${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z`
  return iso.endsWith('.000Z') ? `${iso.slice(0, -5)}Z` : iso
}

function notATarget(text: string, because: string): Failure {
  return new Failure('TM1201', {
    message: `'${text}' is not a recovery target`,
    because,
    fix: `give one of ${EXAMPLES}`,
  })
}
