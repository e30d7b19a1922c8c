/**
 * The agent as a service of the machine, in its own words: a LaunchDaemon of macOS, a unit of systemd. Pure texts. Both
 * let shards live when the agent is stopped or restarted, and start it again when it ends, except where it was refused.
 */
export interface ServiceSpec {
  /** argv of the agent: node, the program, `agent` and its flags. Holds no secret: everybody may read these files. */
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Where the agent writes its own log, which it bounds itself. */
  readonly logFile: string
}

export interface ServiceFile {
  readonly path: string
  readonly text: string
}

export const LABEL = 'dev.mctl.agent'
export const UNIT = 'mctl-agent.service'

/**
 * A daemon of root, not an agent of a user: macOS 15 and newer keep programs of users from the local network until
 * somebody clicks (facts/peers.md; Apple TN3179). Not verified on hardware.
 */
export function launchDaemon({ argv, env, logFile }: ServiceSpec): ServiceFile {
  const dict = {
    Label: LABEL,
    ProgramArguments: argv,
    EnvironmentVariables: env,
    RunAtLoad: true,
    // An exit of 0 was asked for; every other one is started again, after ThrottleInterval.
    KeepAlive: { SuccessfulExit: false },
    ThrottleInterval: 10,
    // What the agent started outlives it: the next one adopts it.
    AbandonProcessGroup: true,
    ProcessType: 'Interactive',
    StandardOutPath: `${logFile}.out`,
    StandardErrorPath: `${logFile}.out`,
  }
  const text = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
${element(dict, '')}
</plist>
`
  return { path: `/Library/LaunchDaemons/${LABEL}.plist`, text }
}

type Plist = string | number | boolean | readonly Plist[] | { readonly [key: string]: Plist }

function element(value: Plist, indent: string): string {
  const inner = `${indent}  `
  if (typeof value === 'string') return `${indent}<string>${escaped(value)}</string>`
  if (typeof value === 'number') return `${indent}<integer>${value}</integer>`
  if (typeof value === 'boolean') return `${indent}<${value}/>`
  if (isList(value)) return [`${indent}<array>`, ...value.map((v) => element(v, inner)), `${indent}</array>`].join('\n')
  const pairs = Object.entries(value).flatMap(([key, v]) => [`${inner}<key>${escaped(key)}</key>`, element(v, inner)])
  return [`${indent}<dict>`, ...pairs, `${indent}</dict>`].join('\n')
}

const isList = (value: Plist): value is readonly Plist[] => Array.isArray(value)

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** Logs go to the journal. */
export function systemdUnit({ argv, env }: ServiceSpec): ServiceFile {
  const text = `[Unit]
Description=mctl agent
Documentation=file:///usr/share/doc/mctl/operations.md
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart=${argv.map(quoted).join(' ')}
${Object.entries(env)
  .map(([key, value]) => `Environment="${plain(`${key}=${value}`)}"`)
  .join('\n')}
# What the agent started outlives it: the next one adopts it.
KillMode=process
Restart=on-failure
RestartSec=10
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
`
  return { path: `/etc/systemd/system/${UNIT}`, text }
}

/** systemd.service(5): blanks part words, `%` begins a specifier, and `$` a variable, in ExecStart only. */
const quoted = (word: string) => `"${plain(word).replaceAll('$', '$$$$')}"`
const plain = (word: string) => word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%')
