/**
 * --since and --until: an ISO 8601 time with its zone as everywhere, a time of today with its
 * zone (14:00Z), or so long ago (30min, 2h, 3d). Pure.
 */
import { Failure } from '../../../base/failure.ts'
import type { Microseconds } from '../../../postgres/wal-event.ts'
import { parseTime } from '../../../recovery/parse-target.ts'

const AGO = /^(\d{1,6})(s|min|h|d)$/
const TIME_OF_DAY = /^\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$/i
const SECONDS: Readonly<Record<string, number>> = { s: 1, min: 60, h: 3600, d: 86_400 }

/** TM1482 for what is none of these; `option` is named in it. */
export function parseMoment(text: string, option: string, now: Date): Microseconds {
  const word = text.trim()
  const ago = AGO.exec(word)
  if (ago !== null) {
    const seconds = Number(ago[1]) * (SECONDS[ago[2] as string] as number)
    return BigInt(now.getTime()) * 1000n - BigInt(seconds) * 1_000_000n
  }
  const time = TIME_OF_DAY.exec(word)
  if (time === null) return asMoment(word, option)
  if (time[1] === undefined) {
    throw notAMoment(text, option, 'the time has no zone, so it could mean a moment hours away')
  }
  const day = new Date(now.getTime() + zoneMinutes(time[1]) * 60_000).toISOString().slice(0, 10)
  return asMoment(`${day}T${word}`, option)
}

function asMoment(text: string, option: string): Microseconds {
  try {
    return parseTime(text)
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'TM1201') throw error
    throw notAMoment(text, option, error.because, error)
  }
}

/** The day is that of the zone which the time is written in. */
function zoneMinutes(zone: string): number {
  const match = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone)
  if (match === null) return 0
  const minutes = Number(match[2]) * 60 + Number(match[3] ?? '0')
  return match[1] === '-' ? -minutes : minutes
}

function notAMoment(
  text: string,
  option: string,
  because: string | undefined,
  cause?: unknown,
): Failure {
  return new Failure('TM1482', {
    message: `${option} ${text} is not a moment`,
    ...(because === undefined ? {} : { because }),
    fix: 'write 2026-11-20T14:00:00Z, 2026-11-20T15:00:00+01:00, 14:00Z for today, or 30min, 2h, 3d for so long ago',
    ...(cause === undefined ? {} : { cause }),
  })
}
