/** What --verbose tells of each repository: requests, and bytes. */
import { readMeters, type StorageCounts } from '../storage/storage-meter.ts'
import { formatBytes, formatCount } from './format-units.ts'

/** One line for each repository that was asked anything. */
export function describeStorage(meters = readMeters()): string[] {
  return [...meters].flatMap(([url, counts]) => {
    const { bytesRead, bytesWritten } = counts
    const { what, asked } = requestsOf(counts)
    if (asked.size === 0) return []
    const total = [...asked.values()].reduce((sum, count) => sum + count, 0)
    const parts = [...asked].map(([name, count]) => `${name} ${count}`).join(', ')
    const bytes = `${formatBytes(bytesRead)} read, ${formatBytes(bytesWritten)} written`
    return [`${url}: ${formatCount(total, what)} (${parts}); ${bytes}`]
  })
}

/** Requests where there is an object store, else calls: what costs time and money. */
function requestsOf({ calls, requests }: StorageCounts) {
  if (requests.size > 0) return { what: 'request', asked: requests }
  return { what: 'call', asked: calls }
}

export function storageJson(meters = readMeters()): Record<string, unknown>[] {
  return [...meters].map(([url, { calls, requests, bytesRead, bytesWritten }]) => ({
    url,
    calls: Object.fromEntries(calls),
    requests: Object.fromEntries(requests),
    bytesRead,
    bytesWritten,
  }))
}
