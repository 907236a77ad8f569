/**
 * The only place that reads environment variables. Everything below gets values.
 */
export type Environment = Readonly<Record<string, string | undefined>>

export function environment(): Environment {
  return process.env
}
