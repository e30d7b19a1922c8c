#!/usr/bin/env node
// `npm run setup`: makes a checkout ready: packages, build, the engine mlx in its own Python environment, the demo model.
// Plain JavaScript without dependencies, since it runs before node_modules exist. Each step looks first and is skipped when
// its result is there, so running it again costs a moment. `npm run setup -- --llamacpp` makes the engine llamacpp and its
// demo model, too; `node src/bin/setup.mjs engine model` runs only those steps.
import { SetupError } from './setup/errors.mjs'
import { setupPaths } from './setup/paths.mjs'
import { installPackages, build } from './setup/project.mjs'
import { installEngine } from './setup/engine.mjs'
import { installLlamaCpp } from './setup/llamacpp.mjs'
import { makeDemoGguf, makeDemoModel } from './setup/model.mjs'
import { say } from './setup/say.mjs'

const steps = { packages: installPackages, build, engine: installEngine, model: makeDemoModel }
const llamacppSteps = { llamacpp: installLlamaCpp, gguf: makeDemoGguf }
const allSteps = { ...steps, ...llamacppSteps }
const WITH_LLAMACPP = '--llamacpp'

async function main(args) {
  const named = args.filter((arg) => arg !== WITH_LLAMACPP)
  const unknown = named.find((name) => !Object.hasOwn(allSteps, name))
  if (unknown !== undefined) {
    throw new SetupError(
      `there is no step ${unknown}`,
      `Name some of: ${Object.keys(allSteps).join(', ')}; or none, and ${WITH_LLAMACPP} for the engine llamacpp.`,
    )
  }
  const wanted = new Set(named.length > 0 ? named : Object.keys(steps))
  if (args.includes(WITH_LLAMACPP)) for (const name of Object.keys(llamacppSteps)) wanted.add(name)
  const paths = setupPaths(process.env, process.platform)
  for (const [name, step] of Object.entries(allSteps)) if (wanted.has(name)) await step(paths, say)
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  process.stderr.write(`setup: ${error.message}\n${error.remedy.replace(/^/gm, '  ')}\n`)
  process.exitCode = 1
}
