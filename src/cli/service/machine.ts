/** The machine that a command runs on, as far as services and checks need it. `bin` makes the real one. */
import type { MachineFacts } from './checks.ts'

/** Where an agent of this machine keeps what is its own. */
export interface AgentPlace {
  readonly name: string
  readonly dataDir: string
  readonly modelsDir: string
  /** The user's data folder, with the engines: of who called sudo, when root was called so. */
  readonly home: string
}

export interface Machine {
  readonly platform: 'darwin' | 'linux'
  readonly isRoot: boolean
  /** argv of this program. */
  readonly program: readonly string[]
  /** Where the agent as a service writes its log. */
  readonly agentLog: string
  agentPlace(flags: {
    readonly name?: string
    readonly dataDir?: string
    readonly modelsDir?: string
  }): Promise<AgentPlace>
  facts(place: AgentPlace, server: string): Promise<MachineFacts>
  /**
   * Makes the environment of engine mlx, as `npm run setup` does and for the person whose it is. Takes minutes; what it says
   * goes to the terminal. Its exit code.
   */
  installEngine(place: AgentPlace): Promise<number>
  run(argv: readonly string[]): Promise<{ readonly code: number; readonly output: string }>
  exists(path: string): boolean
  /** 0644, its folder made. */
  write(path: string, text: string): Promise<void>
  remove(path: string): Promise<void>
}
