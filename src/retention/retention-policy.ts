/** What shall be kept, as plain numbers; config/ reads it from tidemark.yaml. */

export interface RetentionPolicy {
  /** Every moment of this time until now can be recovered, as far as there are backups. */
  readonly windowMs: number
  /** So many of the newest backups. */
  readonly last: number
  /** The newest backup of each of so many days, ISO weeks, months, years that have one (UTC). */
  readonly daily: number
  readonly weekly: number
  readonly monthly: number
  readonly yearly: number
}

export const PERIODS = ['daily', 'weekly', 'monthly', 'yearly'] as const

export type Period = (typeof PERIODS)[number]

/** The period that a time belongs to: `2026-11-21`, `2026-W47`, `2026-11`, `2026`. In UTC. */
export function periodOf(period: Period, timeMs: number): string {
  const text = new Date(timeMs).toISOString()
  if (period === 'daily') return text.slice(0, 10)
  if (period === 'monthly') return text.slice(0, 7)
  return period === 'yearly' ? text.slice(0, 4) : isoWeekOf(timeMs)
}

const DAY_MS = 24 * 3600 * 1000

/** A week belongs to the year that its Thursday lies in (ISO 8601). */
function isoWeekOf(timeMs: number): string {
  const weekday = (new Date(timeMs).getUTCDay() + 6) % 7
  const thursday = new Date(timeMs + (3 - weekday) * DAY_MS)
  const year = thursday.getUTCFullYear()
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1
  return `${year}-W${String(week).padStart(2, '0')}`
}
