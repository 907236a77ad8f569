/**
 * LSNs, timelines and the names of WAL files. PostgreSQL: access/xlog_internal.h
 * (XLogFileName, XLByteToSeg), access/xlogdefs.h.
 */
export type Lsn = bigint & { readonly __brand: 'Lsn' }
export type Timeline = number

export function lsn(value: bigint): Lsn {
  return value as Lsn
}

/** Reads `16/B374D848`; undefined when the text is not an LSN. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (match === null) return undefined
  return lsn((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`))
}

export function formatLsn(value: Lsn): string {
  const high = (value >> 32n).toString(16).toUpperCase()
  const low = (value & 0xffffffffn).toString(16).toUpperCase()
  return `${high}/${low}`
}

/** Number of the WAL segment that holds the byte at `value`. */
export function segmentNumber(value: Lsn, walSegmentSizeBytes: number): bigint {
  return value / BigInt(walSegmentSizeBytes)
}

/** Number of the WAL segment that holds the byte before `value` (XLByteToPrevSeg). */
export function previousSegmentNumber(value: Lsn, walSegmentSizeBytes: number): bigint {
  return (value - 1n) / BigInt(walSegmentSizeBytes)
}

export function segmentStart(segment: bigint, walSegmentSizeBytes: number): Lsn {
  return lsn(segment * BigInt(walSegmentSizeBytes))
}

export function formatSegmentName(
  timeline: Timeline,
  segment: bigint,
  walSegmentSizeBytes: number,
): string {
  const perId = 0x100000000n / BigInt(walSegmentSizeBytes)
  return hex8(BigInt(timeline)) + hex8(segment / perId) + hex8(segment % perId)
}

export interface SegmentName {
  readonly timeline: Timeline
  readonly segment: bigint
}

/** Reads the 24 hexadecimal digits of a segment's name; undefined for anything else. */
export function parseSegmentName(
  name: string,
  walSegmentSizeBytes: number,
): SegmentName | undefined {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/.exec(name)
  if (match === null) return undefined
  const perId = 0x100000000n / BigInt(walSegmentSizeBytes)
  const low = BigInt(`0x${match[3]}`)
  if (low >= perId) return undefined
  return {
    timeline: Number.parseInt(match[1] as string, 16),
    segment: BigInt(`0x${match[2]}`) * perId + low,
  }
}

export function formatTimeline(timeline: Timeline): string {
  return hex8(BigInt(timeline))
}

function hex8(value: bigint): string {
  return value.toString(16).toUpperCase().padStart(8, '0')
}
