/**
 * `dumps` and `retention` of a cluster, and `retentionIn` for single repositories, as plain
 * numbers. Given for a repository it replaces that of the cluster as a whole: a mixture would
 * keep what neither says.
 */
import type { DumpPolicy } from '../dump/plan-dump-expiration.ts'
import type { RetentionPolicy } from '../retention/retention-policy.ts'

/** As the file says it. */
export interface RetentionConfiguration {
  readonly window?: string | undefined
  readonly last?: number | undefined
  readonly daily?: number | undefined
  readonly weekly?: number | undefined
  readonly monthly?: number | undefined
  readonly yearly?: number | undefined
}

/** As the file says it. */
export interface DumpRetentionConfiguration {
  readonly keepLast?: number | undefined
  readonly keepDays?: number | undefined
}

/** Undefined: nothing was said, so that no dump expires. */
export function findDumpPolicy({
  dumps,
}: {
  readonly dumps?: DumpRetentionConfiguration
}): DumpPolicy | undefined {
  if (dumps === undefined) return undefined
  return { keepLast: dumps.keepLast ?? 0, keepDays: dumps.keepDays ?? 0 }
}

interface Retained {
  readonly retention?: RetentionConfiguration
  readonly retentionIn?: ReadonlyMap<string, RetentionConfiguration>
}

/** Undefined: nothing was said, so that nothing expires. */
export function findRetention(
  { retention, retentionIn }: Retained,
  repository: string,
): RetentionPolicy | undefined {
  const said = retentionIn?.get(repository) ?? retention
  if (said === undefined) return undefined
  const { window, last = 0, daily = 0, weekly = 0, monthly = 0, yearly = 0 } = said
  const windowMs = window === undefined ? 0 : parseDuration(window)
  return { windowMs, last, daily, weekly, monthly, yearly }
}

const DURATION = /^([1-9]\d{0,4})([hdw])$/
const HOUR_MS = 3600 * 1000
const UNITS: Readonly<Record<string, number>> = {
  h: HOUR_MS,
  d: 24 * HOUR_MS,
  w: 7 * 24 * HOUR_MS,
}

export function isDuration(text: string): boolean {
  return DURATION.test(text)
}

function parseDuration(text: string): number {
  const [, count = '', unit = ''] = DURATION.exec(text) ?? []
  const factor = UNITS[unit]
  if (factor === undefined) throw new Error(`not a duration: ${text}`)
  return Number(count) * factor
}
