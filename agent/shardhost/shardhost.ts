/**
 * The life of one shard: engine started, watched until Ready, kept, stopped, its end written down. The host ends with
 * its engine: exit.json and state.json are all that anybody needs afterwards.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { Clock, Timer } from '../../src/lib/clock.ts'
import { sleep } from '../../src/lib/clock.ts'
import { messageOf } from '../../src/lib/errors.ts'
import type { Companion } from './companion.ts'
import { companionOf } from './companion.ts'
import { Door } from './door.ts'
import type { RunningEngine } from './engine.ts'
import { startEngine } from './engine.ts'
import { HealthWatch } from './health.ts'
import { LastLines } from './lines.ts'
import { LogFile } from './logfile.ts'
import type { EngineView } from './phase.ts'
import { exitOf, onEvent, progressAgeSeconds, startingView } from './phase.ts'
import type { EngineEvent, HostPhase, HostSpec, HostState, ToHost } from './protocol.ts'
import { HOST_PID_TOKEN } from './protocol.ts'
import { completeOneToken } from './readiness.ts'
import { ControlSocket } from './socket.ts'
import { writeExit, writeState } from './statefile.ts'

const READY_RETRY_MS = 250
const LOG_LINES_KEPT = 20
/** Once the start deadline has passed, the engine has had its time. */
const DEADLINE_GRACE_MS = 2000

export interface HostSelf {
  readonly pid: number
  readonly startTime: string
}

interface Asked {
  readonly reason: string
  readonly message: string
}

export class Shardhost {
  readonly #spec: HostSpec
  readonly #self: HostSelf
  readonly #clock: Clock
  readonly #control: ControlSocket
  readonly #log: LogFile
  readonly #lastLines = new LastLines(LOG_LINES_KEPT)
  readonly #door: Door | undefined
  readonly #health: HealthWatch
  readonly #companion: Companion | undefined
  readonly #over = new AbortController()
  /** A stop came before the engine was started. */
  readonly #calledOff = new AbortController()
  #view: EngineView = startingView
  #engine: RunningEngine | undefined
  #exit: HostState['exit']
  #asked: Asked | undefined
  #killed = false
  #termTimer: Timer | undefined
  #killTimer: Timer | undefined
  #termAtMs = Infinity
  #killAtMs = Infinity
  #graceMs = Infinity
  #onOver: () => void = () => {}

  constructor(spec: HostSpec, self: HostSelf, clock: Clock) {
    this.#spec = spec
    this.#self = self
    this.#clock = clock
    this.#log = new LogFile(spec.logFile, () => clock.nowMs())
    this.#control = new ControlSocket(spec.socketPath, {
      state: () => this.#state(),
      onMessage: (message) => this.#onMessage(message),
    })
    this.#companion = companionOf(spec, clock)
    const admit = this.#companion?.admit
    const { door, shardUid, credentialsFile } = spec
    if (door !== null)
      this.#door = new Door({ ...door, shardUid, credentialsFile, ...(admit === undefined ? {} : { admit }) })
    // After the door: an idle leader is asked for a canary beside it.
    this.#health = this.#newHealth()
  }

  /** Resolves when the engine has ended, the end is on disk and told, and door and socket are closed. */
  async run(): Promise<void> {
    const over = new Promise<void>((resolve) => (this.#onOver = resolve))
    await this.#control.listen()
    this.#changed()
    await this.#start()
    await over
    this.#over.abort()
    this.#door?.close()
    this.#companion?.close?.()
    await this.#control.close()
    this.#log.close()
  }

  /** As the agent's Stop; what a signal to the host means. */
  stop(message: Omit<ToHost & { type: 'Stop' }, 'type'>, reason = 'Stopped'): void {
    if (this.#view.phase === 'Exited') return
    this.#asked ??= { reason, message: message.reason }
    this.#graceMs = Math.min(this.#graceMs, message.graceMs)
    if (this.#view.phase !== 'Stopping') this.#enter('Stopping')
    this.#door?.set('Draining')
    this.#calledOff.abort()
    this.#terminateAfter(message.drainMs ?? 0)
  }

  async #start(): Promise<void> {
    try {
      await this.#door?.listen()
      this.#writeFiles()
    } catch (error) {
      return this.#end(null, null, { reason: 'ShardhostFailed', message: `before the start: ${messageOf(error)}` })
    }
    const message = await this.#companion?.beforeStart(this.#calledOff.signal).catch(messageOf)
    if (this.#asked !== undefined) return this.#end(null, null, this.#asked)
    if (message !== undefined) return this.#end(null, null, { reason: 'PeerMissing', message })
    const { engine } = this.#spec
    const argv = this.#companion?.complete?.(engine.argv) ?? engine.argv
    this.#engine = startEngine(
      { ...engine, argv },
      {
        onOutput: (chunk) => this.#log.write(chunk),
        onLine: (line) => this.#onLine(line),
        onEvent: (event) => this.#onEvent(event),
        onEnd: (code, signal) => this.#end(code, signal, this.#asked),
        onSpawnError: (error) =>
          this.#end(null, null, { reason: 'EngineNotStarted', message: `start the engine: ${error.message}` }),
      },
    )
    if (this.#engine === undefined) return
    this.#note(`engine started, pid ${this.#engine.pid}: ${argv.join(' ')}`)
    this.#changed()
    this.#clock.after(this.#spec.startupDeadlineMs, () => this.#onStartDeadline())
    this.#health.start(this.#over.signal)
    void this.#companion?.attend((event) => this.#onEvent(event), this.#over.signal)
  }

  #onLine(line: string): void {
    this.#lastLines.push(line)
    const event = this.#companion?.hear(line)
    if (event !== undefined) this.#onEvent(event)
    const veto = this.#companion?.veto?.(line)
    if (veto !== undefined) this.stop({ graceMs: DEADLINE_GRACE_MS, reason: veto }, 'EngineUnsupported')
  }

  #writeFiles(): void {
    for (const { path, content } of this.#spec.files ?? []) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
      writeFileSync(path, content.replaceAll(`"${HOST_PID_TOKEN}"`, String(this.#self.pid)), { mode: 0o600 })
    }
  }

  #onEvent(event: EngineEvent): void {
    const before = this.#view
    this.#view = onEvent(before, event, this.#health.nowMs())
    if (this.#view.phase !== before.phase) this.#changed()
    if (this.#view.saidReady && !before.saidReady) void this.#becomeReady()
  }

  /** Other ranks are Ready when they say so; a leader when it has answered. Tries until it does, ends or is too late. */
  async #becomeReady(): Promise<void> {
    const { door } = this.#spec
    while (door !== null && this.#view.phase === 'Loading') {
      const problem = await completeOneToken(door.enginePort, door.servedName)
      if (problem === undefined) break
      this.#note(`ready, but a completion of one token failed: ${problem}`)
      await sleep(this.#clock, READY_RETRY_MS, this.#over.signal)
    }
    if (this.#view.phase !== 'Loading') return
    this.#door?.set('Open')
    this.#enter('Ready')
  }

  #onStartDeadline(): void {
    if (this.#view.phase !== 'Starting' && this.#view.phase !== 'Loading') return
    const seconds = this.#spec.startupDeadlineMs / 1000
    const what = this.#view.saidReady ? 'said ready but answered no completion' : `was still ${this.#view.phase}`
    this.stop({ graceMs: DEADLINE_GRACE_MS, reason: `the engine ${what} after ${seconds} s` }, 'StartDeadline')
  }

  #terminateAfter(drainMs: number): void {
    const now = this.#clock.monotonicMs()
    this.#termAtMs = Math.min(this.#termAtMs, now + drainMs)
    this.#termTimer?.cancel()
    if (this.#termAtMs <= now) return this.#terminate()
    this.#termTimer = this.#clock.after(this.#termAtMs - now, () => this.#terminate())
    // Only the leader knows when the gang is idle; the others end with it.
    void this.#door?.drained().then(() => this.#terminate())
  }

  #terminate(): void {
    if (this.#view.phase === 'Exited') return
    this.#termTimer?.cancel()
    const now = this.#clock.monotonicMs()
    if (this.#killAtMs === Infinity) this.#engine?.signal('SIGTERM')
    this.#killAtMs = Math.min(this.#killAtMs, now + this.#graceMs)
    this.#termAtMs = now
    this.#killTimer?.cancel()
    this.#killTimer = this.#clock.after(this.#killAtMs - now, () => {
      this.#killed = true
      this.#engine?.signal('SIGKILL')
    })
  }

  #end(code: number | null, signal: NodeJS.Signals | null, asked: Asked | undefined): void {
    if (this.#view.phase === 'Exited') return
    this.#termTimer?.cancel()
    this.#killTimer?.cancel()
    const lastLogLine = this.#lastLines.lines().at(-1)
    const { farewell, phase } = this.#view
    this.#exit = exitOf({
      code,
      signal,
      phase,
      ...(farewell === undefined ? {} : { farewell }),
      ...(lastLogLine === undefined ? {} : { lastLogLine }),
      ...(asked === undefined ? {} : { asked: this.#killed ? unwilling(asked, this.#graceMs) : asked }),
      atMs: this.#clock.nowMs(),
    })
    this.#note(`${this.#exit.reason}: ${this.#exit.message}`)
    writeExit(this.#spec.dir, this.#exit)
    this.#enter('Exited')
    this.#onOver()
  }

  #onMessage(message: ToHost): void {
    if (message.type === 'Stop') this.stop(message)
  }

  #newHealth(): HealthWatch {
    const { door, liveness } = this.#spec
    const leader = this.#door
    return new HealthWatch({
      clock: this.#clock,
      liveness,
      view: () => this.#view,
      ...(door === null || leader === undefined
        ? {}
        : {
            leader: {
              taken: () => leader.taken(),
              inFlight: () => leader.inFlight(),
              ask: (limitMs) => completeOneToken(door.enginePort, door.servedName, limitMs),
            },
          }),
      tell: () => this.#control.tell(this.#state()),
      note: (text) => this.#note(text),
    })
  }

  #enter(phase: HostPhase): void {
    this.#view = { ...this.#view, phase }
    this.#changed()
  }

  #changed(): void {
    const state = this.#state()
    writeState(this.#spec.dir, state)
    this.#control.tell(state)
  }

  #state(): HostState {
    const age = progressAgeSeconds(this.#view, this.#health.nowMs())
    const unwell = this.#health.unwell()
    return {
      shardUid: this.#spec.shardUid,
      hostPid: this.#self.pid,
      hostStartTime: this.#self.startTime,
      ...(this.#engine === undefined ? {} : { enginePid: this.#engine.pid, engineStartTime: this.#engine.startTime }),
      phase: this.#view.phase,
      ...(age === undefined ? {} : { progressAgeSeconds: age }),
      ...(unwell === undefined ? {} : { unwell }),
      ...(this.#exit === undefined ? {} : { exit: this.#exit }),
      lastLogLines: this.#lastLines.lines(),
    }
  }

  #note(text: string): void {
    this.#log.write(`[mctl] ${new Date(this.#clock.nowMs()).toISOString()} ${text}\n`)
  }
}

const unwilling = (asked: Asked, graceMs: number): Asked => ({
  ...asked,
  message: `${asked.message}; nothing ended within ${graceMs / 1000} s of SIGTERM`,
})
