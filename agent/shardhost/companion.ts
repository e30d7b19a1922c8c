/**
 * An engine that was not written for us speaks no events and keeps no limits. Its companion does so in its stead, inside
 * the shardhost: it waits for what the engine needs before its start, tells events as the engine would, and decides what
 * becomes of a request. Engines with a shim of ours have none.
 */
import { llamaServerCompanion } from '../runtimes/llamacpp/leader.ts'
import { rpcWorkerCompanion } from '../runtimes/llamacpp/worker.ts'
import type { Clock } from '../../src/lib/clock.ts'
import type { EngineEvent, HostSpec } from './protocol.ts'

export interface Companion {
  /** Before the engine starts: resolves with undefined when it may, or with what is missing. An abort ends it, too. */
  beforeStart(signal: AbortSignal): Promise<string | undefined>
  /** The engine's arguments with what was found out before its start. */
  complete?(argv: readonly string[]): readonly string[]
  /** From the start until the signal aborts: events as the engine would tell them. */
  attend(tell: (event: EngineEvent) => void, signal: AbortSignal): Promise<void>
  /** What a line of the engine's output tells; `exit` stands for last words, the process ends by itself. */
  hear(line: string): EngineEvent | undefined
  /** Why an engine that has said this line must not go on. */
  veto?(line: string): string | undefined
  /** What becomes of a request at the leader's door. */
  admit?(request: Incoming, signal: AbortSignal): Promise<Admission>
  /** The engine has ended. */
  close?(): void
}

export interface Incoming {
  readonly method: string
  readonly path: string
  readonly body: Buffer
}

export type Admission =
  | { readonly kind: 'Answered'; readonly status: number; readonly body: unknown }
  /** Absent body: the request has none. */
  | { readonly kind: 'Forward'; readonly path: string; readonly body?: string }

export function companionOf({ companion, shardUid, credentialsFile }: HostSpec, clock: Clock): Companion | undefined {
  switch (companion?.kind) {
    case undefined:
      return undefined
    case 'LlamaServer':
      return llamaServerCompanion(companion, credentialsFile, clock)
    case 'RpcWorker':
      return rpcWorkerCompanion({ ...companion, shardUid, credentialsFile }, clock)
  }
}
