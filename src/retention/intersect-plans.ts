/** What two plans agree to remove. Pure. */
import type { ExpirationPlan, ExpiredWal } from './plan-expiration.ts'

/** The reasons are those of the second plan. */
export function intersectPlans(first: ExpirationPlan, second: ExpirationPlan): ExpirationPlan {
  const expire = new Set(first.expire.map(({ id }) => id))
  const packs = new Set(first.packs.map(({ id }) => id))
  const marks = new Set(first.marks)
  return {
    ...second,
    expire: second.expire.filter(({ id }) => expire.has(id)),
    packs: second.packs.filter(({ id }) => packs.has(id)),
    marks: second.marks.filter((key) => marks.has(key)),
    wal: second.wal.flatMap((system) => intersectWal(first.wal, system)),
  }
}

function intersectWal(first: readonly ExpiredWal[], system: ExpiredWal): ExpiredWal[] {
  const before = first.find(({ systemIdentifier }) => systemIdentifier === system.systemIdentifier)
  if (before === undefined) return []
  const keys = new Set(before.others.map(({ key }) => key))
  const timelines = system.timelines.flatMap((one) => {
    const earlier = before.timelines.find(({ timeline }) => timeline === one.timeline)
    const known = new Set(earlier?.segments)
    const segments = one.segments.filter((segment) => known.has(segment))
    return segments.length === 0 ? [] : [{ ...one, segments }]
  })
  return [{ ...system, timelines, others: system.others.filter(({ key }) => keys.has(key)) }]
}

export function isEmptyPlan({ expire, packs, wal, marks }: ExpirationPlan): boolean {
  return expire.length + packs.length + wal.length + marks.length === 0
}
