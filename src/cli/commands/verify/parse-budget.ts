/** `--budget`: an amount of bytes, or a time. Pure. */
import { wrongUsage } from '../../program.ts'

const BYTES: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}
const MILLISECONDS: Readonly<Record<string, number>> = { s: 1000, min: 60_000, h: 3_600_000 }

/** TM1001 for anything else than a number and one of the units. */
export function parseBudget(text: string): { bytes: number } | { ms: number } {
  const [, digits = '', unit = ''] = /^(\d{1,9}(?:\.\d{1,3})?) ?([A-Za-z]+)$/.exec(text) ?? []
  const bytes = BYTES[unit]
  const ms = MILLISECONDS[unit]
  if (Number(digits) > 0 && bytes !== undefined) return { bytes: Number(digits) * bytes }
  if (Number(digits) > 0 && ms !== undefined) return { ms: Number(digits) * ms }
  throw wrongUsage(
    `--budget cannot be '${text}'`,
    `it is an amount (${Object.keys(BYTES).join(', ')}) or a time (s, min, h)`,
    'for example: --budget 50GiB, or --budget 30min',
  )
}
