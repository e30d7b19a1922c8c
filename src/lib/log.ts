/**
 * Logs are JSON lines: a constant sentence and named facts (`kind name node shard rank epoch revision controller
 * durationMs error`). Rooms see only this interface; `bin` makes the pino logger behind it.
 */
export type Facts = Readonly<Record<string, unknown>>

export interface Logger {
  debug(message: string, facts?: Facts): void
  info(message: string, facts?: Facts): void
  warn(message: string, facts?: Facts): void
  error(message: string, facts?: Facts): void
  with(facts: Facts): Logger
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  with: () => silentLogger,
}
