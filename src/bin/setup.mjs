#!/usr/bin/env node
// `npm run setup`: makes a checkout ready: packages, build, the engine mlx in its own Python environment, the demo model.
// Plain JavaScript without dependencies, since it runs before node_modules exist. Each step looks first and is skipped when
// its result is there, so running it again costs a moment. `node src/bin/setup.mjs engine model` runs only those steps.
import { SetupError } from './setup/errors.mjs'
import { setupPaths } from './setup/paths.mjs'
import { installPackages, build } from './setup/project.mjs'
import { installEngine } from './setup/engine.mjs'
import { makeDemoModel } from './setup/model.mjs'
import { say } from './setup/say.mjs'

const steps = { packages: installPackages, build, engine: installEngine, model: makeDemoModel }

async function main(wanted) {
  const unknown = wanted.filter((name) => !(name in steps))
  if (unknown.length > 0) {
    throw new SetupError(`there is no step ${unknown[0]}`, `Name some of: ${Object.keys(steps).join(', ')}; or none.`)
  }
  const paths = setupPaths(process.env, process.platform)
  for (const [name, step] of Object.entries(steps)) {
    if (wanted.length === 0 || wanted.includes(name)) await step(paths, say)
  }
}

try {
  await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  process.stderr.write(`setup: ${error.message}\n${error.remedy.replace(/^/gm, '  ')}\n`)
  process.exitCode = 1
}
